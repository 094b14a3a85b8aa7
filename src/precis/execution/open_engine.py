"""The engine that params.yaml asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from precis.execution.engine import Engine
from precis.execution.local import LocalEngine


@contextmanager
def open_engine(
    engine: Literal["local", "ray"],
    *,
    address: str | None,
    workers: int,
    cpus_per_worker: float,
    processes: int = 1,
) -> Iterator[Engine]:
    """Give an engine for as long as the block lasts.

    Args:
        engine: local: this machine; ray: a Ray cluster.
        address: of the Ray cluster; None starts one on this machine, for this stage alone.
        workers: of Ray, at a time; 0: as many as there is room for.
        cpus_per_worker: cores of each of them.
        processes: of this machine, for functions that keep something large; 0: one for each core.

    Raises:
        PrecisError: Ray is asked for and not installed.
        UnreachableError: no cluster answers at the address.
    """
    if engine == "local":
        yield LocalEngine(processes)
        return
    from precis.execution.ray_engine import ray_engine  # an extra: not everybody has it

    with ray_engine(address, workers=workers, cpus_per_worker=cpus_per_worker) as opened:
        yield opened
