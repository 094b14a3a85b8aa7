"""Whatever the rows are, prepare gets through, and what it read is what it kept and what it set aside."""

import json

import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from precis.corpora.article import PREPARED_SCHEMA, RAW_SCHEMA, SPLITS, Article, batches, parquet_writer
from precis.corpora.checks import CHECKS, TextLimits
from precis.corpora.firewall import Firewall
from precis.corpora.near_duplicates import NearDuplicateSearch
from precis.execution.local import LocalEngine
from precis.stages.prepare import prepare

FIREWALL = Firewall(
    actions=dict.fromkeys(CHECKS, "quarantine"),
    limits=TextLimits(2_000, 500, 100),
    max_same_summary=3,
    search=NearDuplicateSearch(3, 0.8, 32, 8, 1),
    num_examples=2,
    engine=LocalEngine(),
)
ROWS = 100  # in each of a hundred corpora

# near what is right, and with what goes wrong: pieces of text that checks look for
PIECES = st.sampled_from(
    [
        *(
            "word",
            "the",
            "of",
            "market",
            "Straße",
            "é",
            "漢字",
            "слово",
            "<p>",
            "</b>",
            "&amp;",
            "Ã©",
            "â€™",
            "\ufffd",
        ),
        *(
            "\0",
            "\x1b",
            "\u202e",
            "\u200b",
            "...",
            "—",
            "🙂",
            "\n",
            "\t",
            "\r\n",
            "\x85",
            "subject:",
            "{{",
            "[[",
        ),
        *("[/b]", "<<>>", "12", "x_y", "don't", "\ufeff", "\uffed", "\U0001f1e6"),
    ]
)
TEXT = st.one_of(
    st.lists(PIECES, max_size=30).map(" ".join),
    st.lists(st.sampled_from([f"w{n}" for n in range(50)]), min_size=1, max_size=40).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.sampled_from(["x" * 150, "a b " * 300, "<" * 500, "&" * 500, "(" * 1_900]),
)
ARTICLE = st.builds(
    Article,
    id=st.one_of(st.none(), st.uuids().map(str), st.sampled_from(["", "a", "../x", "a/b"])),
    document=TEXT,
    summary=st.one_of(TEXT, st.lists(PIECES, min_size=1, max_size=5).map(" ".join)),
    references=st.one_of(st.none(), st.lists(TEXT, max_size=2)),
    group=st.one_of(st.none(), st.just("g")),
)
UNREADABLE = st.builds(
    Article,
    st.none(),
    st.none(),
    st.none(),
    problem=st.sampled_from(["invalid_json: x", "missing_field: no `a`"]),
)


def write_raw(folder, rows):
    folder.mkdir(parents=True)
    for number, split in enumerate(SPLITS):
        with parquet_writer(folder / f"{split}.parquet", RAW_SCHEMA) as writer:
            # one good row, so that no split is empty
            good = Article(f"good-{number}", " ".join(f"{split}{n}" for n in range(20)), f"a {split} summary")
            for batch in batches([good, *rows[number::3]], RAW_SCHEMA):
                writer.write_batch(batch)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.one_of(ARTICLE, ARTICLE, ARTICLE, UNREADABLE), min_size=ROWS, max_size=ROWS))
def test_ten_thousand_rows_of_any_kind_add_up(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("fuzz")
    write_raw(folder / "raw", rows)
    shares = dict.fromkeys(CHECKS, 1.0)
    findings = prepare(
        folder / "raw", folder / "out", folder / "checks.json", firewall=FIREWALL, max_shares=shares
    )
    kept = {split: pq.read_table(folder / f"out/{split}.parquet") for split in SPLITS}
    aside = pq.read_table(folder / "out/quarantine.parquet")
    assert (
        sum(table.num_rows for table in kept.values()) + len(aside) == len(rows) + 3 == findings.read.total()
    )
    assert findings.set_aside.total() == len(aside)
    report = json.loads((folder / "checks.json").read_text())
    assert sum(split["kept"] for split in report["rows"].values()) == sum(map(len, kept.values()))
    seen: set[str] = set()
    for split in SPLITS:
        assert kept[split].schema.equals(PREPARED_SCHEMA)
        for row in kept[split].to_pylist():
            assert row["references"][0] == row["summary"]
            assert "\0" not in row["document"] + row["summary"]
        seen |= set(kept[split]["id"].to_pylist())


def test_the_same_rows_are_the_same_bytes(tmp_path):
    rows = [Article(f"row-{n}", " ".join(f"w{n}x{m}" for m in range(30)), f"news of {n}") for n in range(200)]
    shares = dict.fromkeys(CHECKS, 1.0)
    for name in ("one", "two"):
        write_raw(tmp_path / name / "raw", rows)
        folder = tmp_path / name
        prepare(folder / "raw", folder / "out", folder / "checks.json", firewall=FIREWALL, max_shares=shares)
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes(), (
            path.name
        )


def test_test_rows_stay_when_their_copies_go(tmp_path):
    write_raw(tmp_path / "raw", [])
    text = " ".join(f"w{n}" for n in range(30))
    rows = {
        "test": [Article("a", text, "one summary"), Article("b", text.upper(), "another summary")],
        "validation": [
            Article("c", text + " \n", "one summary"),
            Article("e", "own words of validation here", "own"),
        ],
        "train": [
            Article("d", f"“{text}”", "one summary"),
            Article("f", "own words of train here, too", "own"),
        ],
    }
    for split, articles in rows.items():
        with parquet_writer(tmp_path / f"raw/{split}.parquet", RAW_SCHEMA) as writer:
            for batch in batches(articles, RAW_SCHEMA):
                writer.write_batch(batch)
    shares = dict.fromkeys(CHECKS, 1.0)
    findings = prepare(
        tmp_path / "raw", tmp_path / "out", tmp_path / "checks.json", firewall=FIREWALL, max_shares=shares
    )
    assert [pq.read_table(tmp_path / f"out/{s}.parquet")["id"].to_pylist() for s in SPLITS] == [
        ["f"],
        ["e"],
        ["a", "b"],
    ]
    assert findings.copies == {"test_in_validation": 2, "test_in_train": 2, "validation_in_train": 1}
    assert findings.clean_test_ids == []
