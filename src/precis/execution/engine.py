"""What a stage asks of whatever runs its work: pure functions over parts of a file, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Item = TypeVar("Item")
Result = TypeVar("Result")
Shared = TypeVar("Shared")

CHUNK_ROWS = 1_000


class Engine(Protocol):
    """Runs functions elsewhere or here; every engine gives the same results in the same order.

    The functions are pure: they may run twice when a machine is lost, and on machines that have no more in
    common with this one than the package and the files.
    """

    def map_rows(
        self,
        path: Path,
        function: Callable[[pa.RecordBatch], Result],
        *,
        columns: list[str] | None = None,
        chunk_rows: int = CHUNK_ROWS,
        keeps: bool = False,
    ) -> Iterator[Result]:
        """Give `function` the rows of a Parquet file, some at a time; only few results wait.

        Args:
            path: the file; every machine sees it under this name.
            function: of a batch of rows.
            columns: which to read; None reads all.
            chunk_rows: rows of a batch; the last has the rest.
            keeps: whether the function keeps something large, such as a model, from call to call: then few
                processes call it, each many times, and a call is long.
        """
        ...

    def map_items(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """Give `function` each item, beside something large that all of them need."""
        ...


def read_rows(path: Path, start: int, stop: int, columns: list[str] | None = None) -> pa.RecordBatch:
    """The rows from `start` to before `stop` of a Parquet file: no other row groups are read."""
    state = path.stat()
    metadata, ends = _footer(path, state.st_size, state.st_mtime_ns)
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    assert start < stop <= ends[-1], "no rows there"
    with pq.ParquetFile(str(path), metadata=metadata, pre_buffer=False) as file:
        table = file.read_row_groups(range(first, last + 1), columns=columns, use_threads=False)
    before = int(ends[first - 1]) if first else 0
    (rows,) = table.slice(start - before, stop - start).combine_chunks().to_batches()
    return rows


@lru_cache(maxsize=2)
def _footer(path: Path, size: int, modified: int) -> tuple[pq.FileMetaData, NDArray[np.int64]]:
    """Where the row groups end. It is as long as the file is: read for each chunk, it would cost its square."""
    metadata = pq.read_metadata(str(path))
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    return metadata, np.cumsum(sizes, dtype=np.int64)
