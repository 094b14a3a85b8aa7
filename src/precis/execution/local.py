"""Work on this machine: in this process, or in several that end with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from precis.execution.engine import CHUNK_ROWS, Item, Result, Shared, read_rows
from precis.processes import num_cores, worker_processes

_CHUNKS_AHEAD = 2  # of each process: enough to keep it busy, and what memory is bounded by


class LocalEngine:
    """Runs functions here and now.

    Args:
        processes: that share the work of a function which keeps something large; 0: one for each core. All other
            work is done in this process.
    """

    def __init__(self, processes: int = 1) -> None:
        self._processes = processes or num_cores()

    def map_rows(
        self,
        path: Path,
        function: Callable[[pa.RecordBatch], Result],
        *,
        columns: list[str] | None = None,
        chunk_rows: int = CHUNK_ROWS,
        keeps: bool = False,
    ) -> Iterator[Result]:
        """See `Engine.map_rows`."""
        if keeps and self._processes > 1:
            yield from self._in_processes(path, function, columns, chunk_rows)
            return
        with pq.ParquetFile(str(path), pre_buffer=False) as file:  # the buffer would hold the whole file
            yield from map(function, file.iter_batches(batch_size=chunk_rows, columns=columns))

    def _in_processes(
        self,
        path: Path,
        function: Callable[[pa.RecordBatch], Result],
        columns: list[str] | None,
        chunk_rows: int,
    ) -> Iterator[Result]:
        num_rows = pq.read_metadata(str(path)).num_rows
        waiting: deque[Future[Result]] = deque()
        with worker_processes(self._processes) as pool:
            for start in range(0, num_rows, chunk_rows):
                stop = min(start + chunk_rows, num_rows)
                waiting.append(pool.submit(_on_rows, function, path, start, stop, columns))
                if len(waiting) > _CHUNKS_AHEAD * self._processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def map_items(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """See `Engine.map_items`."""
        return (function(shared, item) for item in items)


def _on_rows(
    function: Callable[[pa.RecordBatch], Result],
    path: Path,
    start: int,
    stop: int,
    columns: list[str] | None,
) -> Result:
    return function(read_rows(path, start, stop, columns))
