"""Work on a Ray cluster: the same functions as in this process, as maps of Ray Data."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from precis.errors import PrecisError, UnreachableError
from precis.execution.engine import CHUNK_ROWS, Item, Result, Shared, read_rows

_TOKEN = Path.home() / ".ray/auth_token"  # where `ray get-auth-token --generate` puts it
CHUNKS_PER_TASK = 4  # a task of a few milliseconds would be mostly Ray's own work
_MOST_BLOCKS = 10_000  # that are put into the cluster's memory beforehand, with a few numbers in each
CHUNKS_AHEAD = 2  # of each actor: the next one is there when it is done with one


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
            # a machine has whole cores, whatever part of them a worker takes
            settings |= {"include_dashboard": False, "num_cpus": math.ceil(workers * cpus_per_worker) or None}
        try:
            _knock(address)
            # None would join any cluster that happens to run here
            ray.init(address or "local", **settings)
        except (OSError, ValueError, RuntimeError) as error:
            found = (
                f"execution.address is {address!r}, and no Ray cluster answers there"
                if address
                else "execution.address is null, and no Ray cluster could be started here"
            )
            raise UnreachableError(
                f"params.yaml: {found}: {str(error).splitlines()[0]}; start one with `precis cluster up`"
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
        chunk_rows: int = CHUNK_ROWS,
        keeps: bool = False,
    ) -> Iterator[Result]:
        """See `Engine.map_rows`; each worker reads its own rows. What is kept, actors keep."""
        import ray

        path = path.resolve()
        num_rows = pq.read_metadata(str(path)).num_rows
        num_chunks = -(-num_rows // chunk_rows)
        if num_chunks == 0:
            return
        on_rows: Any = _OnRows(function, path, num_rows, columns, chunk_rows)
        chunks: Any
        if keeps:
            size = min(num_chunks, self._num_workers())
            # a lost actor waits for room: the others make it as soon as they have nothing to do
            pool = ray.data.ActorPoolStrategy(
                min_size=1, initial_size=size, max_size=size, max_tasks_in_flight_per_actor=CHUNKS_AHEAD
            )
            how: dict[str, Any] = {"compute": pool, "fn_constructor_args": (on_rows,)}
            on_rows = _Actor
            # not a range, which is read by tasks: the actors leave no room for any
            numbers = [{"id": number} for number in range(num_chunks)]
            chunks = ray.data.from_items(numbers, override_num_blocks=min(num_chunks, _MOST_BLOCKS))
        else:
            how = {"compute": ray.data.TaskPoolStrategy(self._workers or None)}
            chunks = ray.data.range(num_chunks, override_num_blocks=-(-num_chunks // CHUNKS_PER_TASK))
        results = chunks.map_batches(on_rows, batch_size=1, batch_format="numpy", num_cpus=self._cpus, **how)
        for row in results.iter_rows():
            yield row["result"]

    def map_items(
        self, function: Callable[[Shared, Item], Result], shared: Shared, items: Iterable[Item]
    ) -> Iterator[Result]:
        """See `Engine.map_items`; what is shared is put into the cluster's memory once."""
        import ray

        task: Any = ray.remote(num_cpus=self._cpus, max_retries=-1)(_on_item)
        there, beside = ray.put(function), ray.put(shared)
        most = CHUNKS_AHEAD * self._num_workers()
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(task.remote(there, beside, item))
            if len(waiting) > most:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())

    def _num_workers(self) -> int:
        """How many functions run at a time."""
        ray: Any = import_ray()  # untyped in part
        room = int(ray.cluster_resources().get("CPU", 1) / self._cpus)
        return self._workers or max(1, room)


def _on_item(function: Callable[[Shared, Item], Result], shared: Shared, item: Item) -> Result:
    return function(shared, item)


@dataclass(frozen=True)
class _OnRows:
    """A function of the number of a chunk: what `function` gives for its rows."""

    function: Callable[[pa.RecordBatch], Any]
    path: Path
    num_rows: int
    columns: list[str] | None
    chunk_rows: int

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any]:
        start = int(chunk["id"][0]) * self.chunk_rows
        stop = min(start + self.chunk_rows, self.num_rows)
        result = np.empty(1, dtype=object)
        result[0] = self.function(read_rows(self.path, start, stop, self.columns))
        return {"result": result}


class _Actor:
    """The same, in a process of its own for as long as the map lasts."""

    def __init__(self, on_rows: _OnRows) -> None:
        self._on_rows = on_rows

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any]:
        return self._on_rows(chunk)
