"""What a stage asks of whatever runs its work: pure functions over parts of a file, results in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

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
    ) -> Iterator[Result]:
        """Give `function` the rows of a Parquet file, `CHUNK_ROWS` at a time; only few results wait.

        Args:
            path: the file; every machine sees it under this name.
            function: of a batch of rows.
            columns: which to read; None reads all.
        """
        ...

    def map_items(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """Give `function` each item, beside something large that all of them need."""
        ...


def read_rows(path: Path, start: int, stop: int, columns: list[str] | None = None) -> pa.RecordBatch:
    """The rows from `start` to before `stop` of a Parquet file: no other row groups are read."""
    with pq.ParquetFile(str(path), pre_buffer=False) as file:
        groups: list[int] = []
        first = end = 0
        for number in range(file.num_row_groups):
            num_rows = file.metadata.row_group(number).num_rows
            if end + num_rows > start and end < stop:
                if not groups:
                    first = end
                groups.append(number)
            end += num_rows
        table = file.read_row_groups(groups, columns=columns, use_threads=False)
    rows = table.slice(start - first, stop - start).combine_chunks().to_batches()
    assert len(rows) == 1, "no rows there"
    return rows[0]
