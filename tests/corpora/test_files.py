"""Corpora in files of every kind give the same rows."""

import csv
import gzip
import json

import fsspec
import hostile
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from test_hostile import LIMITS

from precis.corpora.columns import Columns
from precis.corpora.files import FilesReader, Retries, with_retries
from precis.errors import PrecisError, UnreachableError

COLUMNS = Columns("body", "title", "key", "titles", "thread", "sent")
ROWS = [
    {
        "key": f"k{n}",
        "body": f'{hostile.text(n)}, "quoted"\nand a second line',
        "title": f"Ünïcode {n}",
        "titles": [f"Ünïcode {n}", "another"],
        "thread": str(n // 3),
        "sent": f"2026-11-{n + 1:02}T09:00:00",
    }
    for n in range(20)
]


def read(location, folder, columns=COLUMNS, attempts=1, **patterns):
    patterns = {"train": None, "validation": None, "test": None} | patterns
    reader = FilesReader(str(location), patterns, columns, LIMITS, Retries(attempts, 0.0), folder / "fetched")
    return list(reader.read()), reader


def json_lines(rows=ROWS):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(folder, kind):
    path = folder / f"corpus.{kind}"
    match kind:
        case "jsonl":
            path.write_bytes(b"\xef\xbb\xbf" + json_lines())
        case "jsonl.gz":
            path.write_bytes(gzip.compress(json_lines()[:5_000]) + gzip.compress(json_lines()[5_000:]))
        case "jsonl.zst":
            path.write_bytes(
                zstandard.compress(json_lines()[:5_000]) + zstandard.compress(json_lines()[5_000:])
            )
        case "csv" | "tsv":
            with path.open("w", newline="", encoding="utf-8-sig") as file:
                writer = csv.DictWriter(
                    file,
                    [k for k in ROWS[0] if k != "titles"],
                    delimiter="\t" if kind == "tsv" else ",",
                    extrasaction="ignore",
                )
                writer.writeheader()
                writer.writerows(ROWS)
        case "parquet":
            pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "csv", "tsv", "parquet"])
def test_every_format_gives_the_same_rows(tmp_path, kind):
    tables = kind in ("csv", "tsv")
    columns = Columns("body", "title", "key", None if tables else "titles", "thread", "sent")
    articles, reader = read(write(tmp_path, kind), tmp_path, columns)
    assert [article.problem for article in articles] == [None] * 20
    assert [article.document for article in articles] == [row["body"] for row in ROWS]
    assert articles[4].summary == "Ünïcode 4" and articles[4].group == "1" and articles[4].id == "k4"
    assert articles[4].references == (None if tables else ["Ünïcode 4", "another"])
    assert articles[1].time - articles[0].time == 24 * 60 * 60
    assert [len(digest) for digest in reader.checksums.values()] == [64]


def test_names_tell_the_splits(tmp_path):
    for name in ("train-0.jsonl", "train-1.jsonl.gz", "dev.jsonl", "test/part.jsonl"):
        path = tmp_path / "corpus" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = json_lines(ROWS[:2])
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    (tmp_path / "corpus/README.md").write_text("no data")
    articles, _ = read(tmp_path / "corpus", tmp_path)
    assert [article.split for article in articles] == ["validation"] * 2 + ["test"] * 2 + ["train"] * 4


def test_patterns_tell_the_splits(tmp_path):
    (tmp_path / "corpus").mkdir()
    for year in (2024, 2025, 2026):
        (tmp_path / f"corpus/{year}-news.jsonl").write_bytes(json_lines(ROWS[:1]))
    articles, _ = read(tmp_path / "corpus", tmp_path, train="202[45]-*", test="2026-*")
    assert [article.split for article in articles] == ["train", "train", "test"]
    with pytest.raises(PrecisError, match=r"is in two splits, train and test"):
        read(tmp_path / "corpus", tmp_path, train="*", test="2026-*")
    with pytest.raises(
        PrecisError, match=r"corpus\.files\.test: no file .* matches '1999-\*'; there: 2024-news"
    ):
        read(tmp_path / "corpus", tmp_path, test="1999-*")


def test_a_url_is_fetched_first(tmp_path):
    with fsspec.open("memory://bucket/corpus.jsonl", "wb") as file:
        file.write(json_lines())
    articles, _ = read("memory://bucket/corpus.jsonl", tmp_path)
    assert len(articles) == 20
    with fsspec.open("memory://folder/test.jsonl", "wb") as file:
        file.write(json_lines(ROWS[:3]))
    assert [article.split for article in read("memory://folder", tmp_path / "other")[0]] == ["test"] * 3


def test_rows_without_ids_are_numbered_by_file_and_line(tmp_path):
    articles, _ = read(write(tmp_path, "jsonl"), tmp_path, Columns("body", "title"))
    assert [article.id for article in articles[:2]] == ["corpus.jsonl:1", "corpus.jsonl:2"]


def test_the_network_is_tried_again_with_longer_waits(monkeypatch):
    waits, calls = [], []
    monkeypatch.setattr("precis.corpora.files.time.sleep", waits.append)

    def fails_twice():
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionResetError("reset by peer")
        return "there"

    assert with_retries(fails_twice, Retries(4, 0.5), "s3://bucket") == "there"
    assert waits == [0.5, 1.0]


def test_a_network_that_stays_away_is_one_message_without_secrets(monkeypatch):
    monkeypatch.setattr("precis.corpora.files.time.sleep", lambda _: None)

    def fails():
        raise TimeoutError("timed out")

    with pytest.raises(PrecisError, match="after 3 attempts: timed out") as error:
        address = "https://user:secret@host/file?token=secret"  # pragma: allowlist secret
        with_retries(fails, Retries(3, 1.0), address)
    assert "https://host/file" in str(error.value) and "secret" not in str(error.value)


def test_only_an_unreachable_machine_is_called_so(monkeypatch, tmp_path):
    monkeypatch.setattr("precis.corpora.files.time.sleep", lambda _: None)

    def fails():
        raise ConnectionRefusedError("refused")

    with pytest.raises(UnreachableError):
        with_retries(fails, Retries(2, 1.0), "s3://bucket")
    with pytest.raises(PrecisError) as error:
        list(read(tmp_path / "nothing", tmp_path))
    assert not isinstance(error.value, UnreachableError)
