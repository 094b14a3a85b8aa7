"""Where the workers of a training run: this process alone, or several that Lightning, torchrun or Ray starts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy as FabricDDPStrategy
from pytorch_lightning.strategies import DDPStrategy

from precis.devices import accelerator, process_group_backend
from precis.errors import PrecisError
from precis.training import workers

# by which Lightning knows that the workers are there
_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
_LONGEST_END = 30.0  # seconds that the other workers have to end after the first one did


def started_by_torchrun() -> tuple[int, int] | None:
    """Workers on each machine and machines, as torchrun started them; None if it did not."""
    if not torch.distributed.is_torchelastic_launched():
        return None
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    return here, everywhere // here


@contextmanager
def joined(devices: int, num_nodes: int, strategy: str) -> Iterator[None]:
    """Be one of the workers of a training for as long as the block lasts.

    Lightning starts the others, with the command line that started this process, unless torchrun did; on several
    machines without torchrun whoever starts them sets MASTER_ADDR, MASTER_PORT, NODE_RANK as for Lightning.

    Args:
        devices: workers on each machine.
        num_nodes: machines.
        strategy: auto: this process alone if that makes one worker; ddp: a worker, whatever the number.

    Raises:
        PrecisError: there are to be several machines, and nothing says which.
    """
    if workers.is_distributed() or (devices * num_nodes == 1 and strategy == "auto"):
        yield
        return
    knows_others = {"MASTER_ADDR", "NODE_RANK"} <= os.environ.keys() or "SLURM_NTASKS" in os.environ
    if num_nodes > 1 and not knows_others and started_by_torchrun() is None:
        raise PrecisError(
            f"train.num_nodes is {num_nodes}, and this process knows of no other machine: start it on each with "
            "torchrun (docs/scaling.md), or use execution.engine: ray"
        )
    # Lightning would set another number of threads where it finds none set
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    fabric = Fabric(
        accelerator=accelerator(),
        devices=devices,
        num_nodes=num_nodes,
        strategy=FabricDDPStrategy(process_group_backend=process_group_backend(accelerator() == "cuda")),
    )
    others: list[subprocess.Popen[bytes]] = []
    before = {name: os.environ.get(name) for name in _VARIABLES}
    try:
        fabric.launch()
        started = getattr(fabric.strategy.launcher, "procs", [])
        others += started
        # Lightning kills this process with them, at any moment, if one ends with an error. It has more to say and
        # to write then, and notices by itself when it next exchanges gradients: nothing is left for it to watch
        started.clear()
        yield
    finally:
        if workers.is_distributed():
            torch.distributed.destroy_process_group()  # those who wait for this one see that it is gone
        for other in others:
            _end(other)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def trainer_settings(devices: int, num_nodes: int, strategy: str) -> dict[str, Any]:
    """What Lightning's Trainer is told of the workers; they have joined before.

    Args:
        devices: workers on each machine.
        num_nodes: machines.
        strategy: auto, ddp, or ray inside of a worker of Ray Train.
    """
    if not workers.is_distributed():
        return {"devices": 1}
    # weights that a phase does not train have no gradient, and the order in which gradients are summed stays the
    # same from the first update on, so that going on from a checkpoint gives the same bytes; the buffers are sums
    # over all workers already
    options: dict[str, Any] = {"find_unused_parameters": True, "forward_sync_buffers": False}
    if strategy != "ray":
        return {"devices": devices, "num_nodes": num_nodes, "strategy": DDPStrategy(**options)}
    from ray.train.lightning import RayDDPStrategy

    on_ray: Any = RayDDPStrategy  # untyped
    return {"devices": "auto", "strategy": on_ray(**options)}


def cluster_plugins(strategy: str) -> list[Any]:
    """What tells Lightning of the cluster, if it does not find it by itself."""
    if strategy != "ray":
        return []
    from ray.train.lightning import RayLightningEnvironment

    environment: Any = RayLightningEnvironment  # untyped
    return [environment()]


def prepared_for_ray(trainer: pl.Trainer) -> pl.Trainer:
    """A Trainer whose settings Ray Train has looked at."""
    from ray.train.lightning import prepare_trainer

    prepared: pl.Trainer = prepare_trainer(trainer)
    return prepared


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LONGEST_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
