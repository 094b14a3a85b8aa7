"""Work in this process: a map and nothing more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from precis.execution.engine import CHUNK_ROWS, Item, Result, Shared


class LocalEngine:
    """Runs functions here and now."""

    def map_rows(
        self,
        path: Path,
        function: Callable[[pa.RecordBatch], Result],
        *,
        columns: list[str] | None = None,
    ) -> Iterator[Result]:
        """See `Engine.map_rows`."""
        with pq.ParquetFile(str(path), pre_buffer=False) as file:  # the buffer would hold the whole file
            yield from map(function, file.iter_batches(batch_size=CHUNK_ROWS, columns=columns))

    def map_items(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """See `Engine.map_items`."""
        return (function(shared, item) for item in items)
