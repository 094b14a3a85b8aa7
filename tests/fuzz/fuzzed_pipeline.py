"""Fuzzed files through reading, splitting, checking, counting words and encoding: no exception but ours."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rows import Rows

from precis.corpora.checks import CHECKS, TextLimits
from precis.corpora.columns import Columns
from precis.corpora.files import FilesReader, Limits, Retries
from precis.corpora.firewall import Firewall
from precis.corpora.near_duplicates import NearDuplicateSearch
from precis.corpora.splits import Shares
from precis.errors import PrecisError
from precis.execution.local import LocalEngine
from precis.stages.download import download
from precis.stages.prepare import check_raw, prepare
from precis.text.tokenizer import Tokenizer

COLUMNS = Columns(
    document="document", summary="summary", id="id", references="references", group="group", time="time"
)
PLAIN = Columns(document="document", summary="summary", id="id")
LIMITS = Limits(row_bytes=100_000, decompressed_bytes=10**8, decompression_ratio=200)
FORMATS = ("jsonl", "csv", "tsv", "parquet")


def write(path: Path, rows: Rows, num_rows: int) -> int:
    """Write a corpus in the format of the file's name; how many rows it has, as far as that can be told."""
    match path.suffix:
        case ".jsonl":
            lines = [json.dumps(rows.good()).encode(), *(rows.line() for _ in range(num_rows - 1))]
            path.write_bytes(b"\n".join(lines) + b"\n")
        case ".parquet":
            table = {key: [] for key in ("id", "document", "summary")}
            for _ in range(num_rows):
                row = rows.row()
                for key, column in table.items():
                    value = row.get(key)
                    column.append(storable(value) if isinstance(value, str) else None)
            pq.write_table(
                pa.table({key: pa.array(column, pa.string()) for key, column in table.items()}), path
            )
        case suffix:
            text = io.StringIO()
            writer = csv.writer(text, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
            writer.writerow(["id", "document", "summary"])
            for _ in range(num_rows):
                row = rows.row()
                writer.writerow([row.get(key) for key in ("id", "document", "summary")])
            path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    return num_rows


def storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def read(path: Path, folder: Path) -> tuple[int, int, Counter[str]]:
    """All of it: rows read, rows kept, and rows set aside by reason; PrecisError where the file is refused."""
    columns = COLUMNS if path.suffix == ".jsonl" else PLAIN
    shutil.rmtree(folder, ignore_errors=True)
    patterns = {"train": None, "validation": None, "test": None}
    reader = FilesReader(str(path), patterns, columns, LIMITS, Retries(1, 0.0), folder / "fetched")
    download(reader.read(), folder / "raw", shares=Shares(0.2, 0.2), by_time=False, max_rows=None)
    check_raw(folder / "raw")
    firewall = Firewall(
        actions=dict.fromkeys(CHECKS, "quarantine"),
        limits=TextLimits(10_000, 5_000, 1_000),
        max_same_summary=20,
        search=NearDuplicateSearch(3, 0.8, 64, 16, 1),
        num_examples=2,
        engine=LocalEngine(),
    )
    shares = dict.fromkeys(CHECKS, 1.0)
    findings = prepare(
        folder / "raw", folder / "prepared", folder / "checks.json", firewall=firewall, max_shares=shares
    )
    reasons: Counter[str] = Counter()
    for (_, reason), number in findings.set_aside.items():
        reasons[reason] += number
    tokenizer = Tokenizer(lowercase=True)
    for split in ("train", "validation", "test"):
        for document in pq.read_table(folder / f"prepared/{split}.parquet").column("document").to_pylist():
            check_tokens(tokenizer, document)
    return findings.read.total(), findings.kept.total(), reasons


def check_tokens(tokenizer: Tokenizer, text: str) -> None:
    """What the tokenizer promises of any text."""
    tokens = tokenizer.tokens(text)
    assert tokenizer.words(text) == [token.text for token in tokens]
    covered = 0
    for token in tokens:
        assert covered <= token.start < token.end <= len(text)
        assert not text[covered : token.start].strip()
        covered = token.end
    assert not text[covered:].strip()
    again = tokenizer.detokenize(tokenizer.words(text))
    assert "".join(again.split()) == "".join((text.lower() if tokenizer.lowercase else text).split())


def outcome(path: Path, folder: Path) -> dict[str, Any]:
    """What became of a file; any other exception than ours goes on, and is a defect."""
    try:
        num_read, num_kept, reasons = read(path, folder)
    except PrecisError as error:
        assert str(error) and len(str(error)) < 5_000 and "\x1b" not in str(error)
        return {"refused": str(error)}
    assert num_read == num_kept + reasons.total(), (num_read, num_kept, reasons)
    assert math.isfinite(num_read)
    return {"read": num_read, "kept": num_kept, "reasons": reasons}
