"""A row of a corpus, on its way from a reader to data/raw and on to data/prepared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = ("train", "validation", "test")
MAX_BATCH_ROWS = 1_000

PREPARED_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("document", pa.string(), nullable=False),
        pa.field("summary", pa.string(), nullable=False),
        pa.field("references", pa.list_(pa.string()), nullable=False),
        pa.field("group", pa.string()),
    ]
)
"""Rows that passed all checks; `references` are all acceptable summaries, the first one being `summary`."""

RAW_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("document", pa.string()),
        pa.field("summary", pa.string()),
        pa.field("references", pa.list_(pa.string())),
        pa.field("group", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
"""Rows as they were found; `problem` says what the reader could not make sense of, as `check: detail`."""


@dataclass(slots=True)
class Article:
    """A document and what it should be summarized as; None where the corpus has nothing."""

    id: str | None
    document: str | None
    summary: str | None
    references: list[str] | None = None
    group: str | None = None
    problem: str | None = None
    time: float | None = None
    split: str | None = None


def stable_hash(text: str, purpose: str) -> int:
    """64 bits that are the same on every machine, and independent for different purposes."""
    data = text.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=8, person=purpose.encode())
    return int.from_bytes(digest.digest(), "big")


def batches(rows: Iterable[object], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Put objects with attributes named like the columns into batches of at most `MAX_BATCH_ROWS` rows."""
    iterator = iter(rows)
    while some := list(islice(iterator, MAX_BATCH_ROWS)):
        arrays = [pa.array([getattr(row, field.name) for row in some], field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def parquet_writer(path: str | Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer whose file depends on the rows alone: no time and no machine in it."""
    return pq.ParquetWriter(str(path), schema, compression="zstd", write_statistics=False)


def read_batches(path: str | Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of one of our own files, a few at a time."""
    with pq.ParquetFile(str(path), pre_buffer=False) as file:  # the buffer would hold the whole file
        yield from file.iter_batches(batch_size=MAX_BATCH_ROWS, columns=columns)
