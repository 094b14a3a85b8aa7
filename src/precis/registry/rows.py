"""The rows that a version came from, and its summaries of them.

They are read from the working copy where it is of the same state, else from DVC's cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from precis.registry.dvc_lock import cache_directory, cached_files, md5_of

RAW, PREPARED = "data/raw", "data/prepared"


def files_of(lineage: dict[str, Any], out: str, root: Path) -> dict[str, Path]:
    """Where the files of an output are, by their path in the repository; empty if they are not on this machine."""
    md5 = next((stage["outs"][out] for stage in lineage["stages"] if out in stage["outs"]), None)
    if md5 is None:
        return {}
    current = root / out
    if current.exists() and md5_of(current) == md5:
        files = sorted(current.rglob("*")) if current.is_dir() else [current]
        return {path.relative_to(root).as_posix(): path for path in files if path.is_file()}
    cached = cached_files(cache_directory(root), out, md5) or []
    listed = cached[1:] if md5.endswith(".dir") else cached
    return {file.path: file.location for file in listed if file.location.is_file()}


def rows_of(lineage: dict[str, Any], root: Path) -> dict[str, int]:
    """Rows of each split that the model came from."""
    import pyarrow.parquet as pq

    return {
        Path(name).stem: int(pq.read_metadata(location).num_rows)
        for name, location in files_of(lineage, RAW, root).items()
        if name.endswith(".parquet")
    }


def find_row(
    lineage: dict[str, Any], root: Path, is_it: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """The first row that `is_it`, as it came or as it was prepared, with its split; None if there is none."""
    import pyarrow.parquet as pq

    files = [*files_of(lineage, RAW, root).items(), *files_of(lineage, PREPARED, root).items()]
    for name, location in files:
        if not name.endswith(".parquet"):
            continue
        with pq.ParquetFile(location) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    if is_it(row):
                        return {"split": Path(name).stem, **row}
    return None


def summary_of(lineage: dict[str, Any], document_id: str, root: Path) -> str | None:
    """What the version's evaluation wrote about a test document; None if it is not on record."""
    out = f"reports/{lineage['model']}/summaries.jsonl"
    for location in files_of(lineage, out, root).values():
        with location.open(encoding="utf-8") as lines:
            for line in lines:
                found = json.loads(line)
                if found["id"] == document_id:
                    return str(found["summary"])
    return None
