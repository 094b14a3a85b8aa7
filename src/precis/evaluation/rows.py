"""The rows that a system is tried on, a window at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from precis.errors import PrecisError


def count_rows(path: Path) -> int:
    """Rows of a Parquet file; raises PrecisError if it is missing or empty."""
    import pyarrow.parquet as pq

    if not path.is_file():
        raise PrecisError(f"{path} not found: run `dvc repro prepare` first")
    num_rows = int(pq.read_metadata(path).num_rows)
    if num_rows == 0:
        raise PrecisError(f"{path} has no rows: there is nothing to evaluate on")
    return num_rows


def read_rows(path: Path, size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows in windows of at most `size`."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        columns = [
            name for name in ("id", "document", "summary", "references") if name in file.schema_arrow.names
        ]
        for batch in file.iter_batches(batch_size=size, columns=columns):
            yield batch.to_pylist()


def references(row: Mapping[str, Any]) -> list[str]:
    """All acceptable summaries of a row, the main one first."""
    return row.get("references") or [row["summary"]]
