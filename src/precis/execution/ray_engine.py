"""Work on a Ray cluster: the same functions as in this process, as maps of Ray Data."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from precis.errors import PrecisError, UnreachableError
from precis.execution.engine import CHUNK_ROWS, Item, Result, Shared, read_rows

_TOKEN = Path.home() / ".ray/auth_token"  # where `ray get-auth-token --generate` puts it
CHUNKS_PER_TASK = 4  # a task of a few milliseconds would be mostly Ray's own work


@contextmanager
def ray_engine(address: str | None, *, workers: int, cpus_per_worker: float) -> Iterator[RayEngine]:
    """Connect to a cluster, or start one in this machine for as long as the block lasts.

    Args:
        address: of the cluster; None starts one here.
        workers: functions that run at a time; 0: as many as the cluster has room for.
        cpus_per_worker: cores that a function is given.

    Raises:
        PrecisError: Ray is not installed.
        UnreachableError: no cluster answers at the address.
    """
    ray = import_ray()
    begun_here = not ray.is_initialized()
    if begun_here:
        for name in ("ray", "ray.data"):  # how Ray Data plans a map is no news of ours
            logging.getLogger(name).setLevel(logging.ERROR)
        settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            settings |= {"include_dashboard": False, "num_cpus": workers * cpus_per_worker or None}
        try:
            _knock(address)
            ray.init(address, **settings)
        except (OSError, ValueError, RuntimeError) as error:
            raise UnreachableError(
                f"params.yaml: execution.address is {address!r}, and no Ray cluster answers there: "
                f"{str(error).splitlines()[0]}; start one with `precis cluster up`"
            ) from error
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    try:
        yield RayEngine(workers=workers, cpus_per_worker=cpus_per_worker)
    finally:
        if begun_here:
            ray.shutdown()


def import_ray() -> Any:
    """Ray itself, with Ray Data; raises PrecisError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    # Ray looks at this once, when it is imported: whoever has a token shows it
    if os.environ.keys() & {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} or _TOKEN.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PrecisError(
            "Ray is not installed: `pip install -c constraints.txt -e '.[ray]'`, "
            "or set params.yaml: execution.engine to local"
        ) from error
    return ray


def _knock(address: str | None) -> None:
    """Ray ends the whole process when nobody answers at an address; this raises OSError instead."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


class RayEngine:
    """Runs functions on whatever machines the connected cluster has; a lost machine's work is done again."""

    def __init__(self, *, workers: int, cpus_per_worker: float) -> None:
        self._workers = workers
        self._cpus = cpus_per_worker

    def map_rows(
        self,
        path: Path,
        function: Callable[[pa.RecordBatch], Result],
        *,
        columns: list[str] | None = None,
    ) -> Iterator[Result]:
        """See `Engine.map_rows`; each worker reads its own rows."""
        import ray

        path = path.resolve()
        num_rows = pq.read_metadata(str(path)).num_rows
        num_chunks = -(-num_rows // CHUNK_ROWS)
        if num_chunks == 0:
            return
        num_tasks = -(-num_chunks // CHUNKS_PER_TASK)
        chunks = ray.data.range(num_chunks, override_num_blocks=num_tasks)
        on_rows: Any = _on_rows  # Ray Data's own types leave a batch in NumPy's form open
        results = chunks.map_batches(
            on_rows,
            batch_size=1,
            batch_format="numpy",
            num_cpus=self._cpus,
            concurrency=self._workers or None,
            fn_args=(function, path, num_rows, columns),
        )
        for row in results.iter_rows():
            yield row["result"]

    def map_items(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """See `Engine.map_items`; what is shared is put into the cluster's memory once."""
        import ray

        task: Any = ray.remote(num_cpus=self._cpus, max_retries=-1)(_on_item)
        there, beside = ray.put(function), ray.put(shared)
        waiting = [task.remote(there, beside, item) for item in items]
        for reference in waiting:
            yield ray.get(reference)


def _on_item(function: Callable[[Shared, Item], Result], shared: Shared, item: Item) -> Result:
    return function(shared, item)


def _on_rows(
    chunk: dict[str, Any],
    function: Callable[[pa.RecordBatch], Any],
    path: Path,
    num_rows: int,
    columns: list[str] | None,
) -> dict[str, Any]:
    start = int(chunk["id"][0]) * CHUNK_ROWS
    result = np.empty(1, dtype=object)
    result[0] = function(read_rows(path, start, min(start + CHUNK_ROWS, num_rows), columns))
    return {"result": result}
