"""A hostile corpus: every bad row is set aside for the right reason, every bad file refused with a clear message."""

import json
import resource
from pathlib import Path

import hostile
import pyarrow.parquet as pq
import pytest

from precis.corpora.checks import CHECKS, TextLimits
from precis.corpora.columns import Columns
from precis.corpora.files import FilesReader, Limits, Retries
from precis.corpora.firewall import Firewall
from precis.corpora.near_duplicates import NearDuplicateSearch
from precis.corpora.splits import Shares
from precis.errors import PrecisError
from precis.execution.local import LocalEngine
from precis.stages.download import download
from precis.stages.prepare import prepare

COLUMNS = Columns(document="document", summary="summary", id="id", references="references")
LIMITS = Limits(row_bytes=4_000_000, decompressed_bytes=10**9, decompression_ratio=200)


def reader(location, folder, columns=COLUMNS):
    patterns = {"train": None, "validation": None, "test": None}
    return FilesReader(
        str(location).replace("nosuch:/b", "nosuch://b"), patterns, columns, LIMITS, Retries(2, 0.0), folder
    )


def firewall(search=True):
    return Firewall(
        actions=dict.fromkeys(CHECKS, "quarantine"),
        limits=TextLimits(100_000, 50_000, 1_000),
        max_same_summary=5,
        search=NearDuplicateSearch(3, 0.7, 128, 32, 1) if search else None,
        num_examples=3,
        engine=LocalEngine(),
    )


def run(folder: Path, columns=COLUMNS, max_share=1.0):
    """Download and prepare the files in `folder`/source; the rows kept and those set aside."""
    articles = reader(folder / "source", folder / "fetched", columns).read()
    download(articles, folder / "raw", shares=Shares(0, 0), by_time=False, max_rows=None)
    shares = dict.fromkeys(CHECKS, max_share)
    findings = prepare(
        folder / "raw", folder / "prepared", folder / "checks.json", firewall=firewall(), max_shares=shares
    )
    kept = [
        r
        for s in ("train", "validation", "test")
        for r in pq.read_table(folder / f"prepared/{s}.parquet").to_pylist()
    ]
    return findings, kept, pq.read_table(folder / "prepared/quarantine.parquet").to_pylist()


def write(folder: Path, **splits: list[bytes]) -> None:
    (folder / "source").mkdir()
    for split, lines in splits.items():
        (folder / "source" / f"{split}.jsonl").write_bytes(b"\n".join(lines) + b"\n")


@pytest.fixture(scope="module")
def sifted(tmp_path_factory):
    """All the bad rows among two hundred good ones."""
    folder = tmp_path_factory.mktemp("hostile")
    good = [hostile.row(number) for number in range(200)]
    bad = [line for _, _, line in hostile.bad_rows()]
    # the first row with references lets that column count as there
    good[0] = hostile.row(0, references=[hostile.summary(0)])
    boilerplate = [hostile.row(number, summary="the same for all") for number in range(300, 308)]
    leaks = [
        hostile.row(400, document=hostile.text(500)),
        hostile.row(401, document=hostile.text(501).upper().replace(" ", "\u00a0")),
        hostile.row(402, document=hostile.text(600)),
        hostile.row(403, document=hostile.text(502) + " or so"),
        hostile.row(404, document=hostile.text(601) + " or so"),
    ]
    write(
        folder,
        train=[*good, *bad, *boilerplate, *leaks],
        validation=[
            *(hostile.row(number) for number in range(600, 630)),
            hostile.row(630, document=hostile.text(503)),
        ],
        test=[hostile.row(number) for number in range(500, 530)],
    )
    return run(folder)


KINDS = [(kind, reason) for kind, reason, _ in hostile.bad_rows()]


@pytest.mark.parametrize(("kind", "reason"), KINDS, ids=[kind for kind, _ in KINDS])
def test_a_bad_row_is_set_aside_for_its_reason(sifted, kind, reason):
    _, _kept, aside = sifted
    number = [name for name, _ in KINDS].index(kind)
    # readers give up on some rows before they know an id; rows keep their order
    bad = [
        row for row in aside if row["split"] == "train" and row["reason"] not in ("boilerplate", "in_test")
    ]
    near = [row for row in bad if row["reason"].startswith("near_")]
    in_order = [
        row for row in bad if not row["reason"].startswith("near_") and row["reason"] != "in_validation"
    ]
    if reason == "near_duplicate":
        assert [row["id"] for row in near if row["reason"] == reason] == [f"row-{1000 + 10 * number}"]
        return
    position = number - sum(other == "near_duplicate" for _, other in KINDS[:number])
    assert in_order[position]["reason"] == reason, in_order[position]["detail"]
    assert in_order[position]["detail"]


def test_no_good_row_is_set_aside_and_no_bad_one_kept(sifted):
    findings, kept, aside = sifted
    ids = {row["id"] for row in kept}
    assert {f"row-{number}" for number in range(200)} <= ids
    assert len(kept) == 200 + 5 + 30 + 30
    assert len(kept) + len(aside) == findings.read.total()


def test_leaks_lose_the_training_copy_and_boilerplate_all_but_the_first(sifted):
    _, _kept, aside = sifted
    reasons = {row["id"]: (row["split"], row["reason"]) for row in aside if row["id"]}
    assert reasons["row-400"] == reasons["row-401"] == ("train", "in_test")
    assert reasons["row-402"] == ("train", "in_validation")
    assert reasons["row-403"] == ("train", "near_test")
    assert reasons["row-404"] == ("train", "near_validation")
    assert reasons["row-630"] == ("validation", "in_test")
    assert [row["id"] for row in aside if row["reason"] == "boilerplate"] == ["row-305", "row-306", "row-307"]


@pytest.mark.parametrize(
    ("message", "make"),
    [case[1:] for case in hostile.bad_files()],
    ids=[case[0] for case in hostile.bad_files()],
)
def test_a_bad_file_is_refused_with_a_clear_message(tmp_path, message, make):
    columns = Columns(document="document", summary="summary", id="id")
    articles = reader(make(tmp_path), tmp_path / "fetched", columns).read()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PrecisError, match=message) as error:
        download(articles, tmp_path / "raw", shares=Shares(0.1, 0.1), by_time=False, max_rows=None)
    assert len(str(error.value)) < 600
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
    )  # KB, though a line has 200 MB
    assert not (tmp_path / "raw").exists()
    assert not list(tmp_path.glob(".raw.*"))


def test_rows_that_break_csv_are_set_aside(tmp_path):
    (tmp_path / "source").mkdir()
    lines = ["id,document,summary", *(f"row-{n},{hostile.text(n)},{hostile.summary(n)}" for n in range(20))]
    lines += ["one,two", "one,two,three,four", 'x,"a"b,c', ",,"]
    (tmp_path / "source/train.csv").write_text("\n".join(lines))
    for split, number in (("validation", 30), ("test", 31)):
        (tmp_path / f"source/{split}.csv").write_text(
            f"{lines[0]}\nrow-{number},{hostile.text(number)},{hostile.summary(number)}\n"
        )
    columns = Columns(document="document", summary="summary", id="id")
    _, kept, aside = run(tmp_path, columns)
    assert [row["reason"] for row in aside] == ["invalid_csv", "invalid_csv", "invalid_csv", "missing_field"]
    assert len(kept) == 22


def test_too_many_bad_rows_refuse_the_corpus_and_leave_a_report(tmp_path):
    good = [hostile.row(number) for number in range(10)]
    write(
        tmp_path,
        train=[
            *good,
            hostile.row(20, summary=""),
            hostile.row(21, document="<b>bold</b> " + hostile.text(21)),
        ],
        validation=[hostile.row(30)],
        test=[hostile.row(31)],
    )
    columns = Columns(document="document", summary="summary", id="id")
    with pytest.raises(
        PrecisError, match=r"(?s)empty: 7\.14%.*markup: 7\.14%.*prepare\.checks\.markup\.max_share"
    ) as error:
        run(tmp_path, columns, max_share=0.05)
    assert "row-20" in str(error.value)
    assert not (tmp_path / "prepared").exists()
    report = json.loads((tmp_path / "checks.json").read_text())
    assert report["rows"]["train"] == {"read": 12, "kept": 10, "set_aside": 2}
