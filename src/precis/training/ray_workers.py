"""The workers of a training on a Ray cluster: Ray Train starts them, and starts them again when one is lost.

They run the same program as the workers that Lightning or torchrun starts. What they need between two attempts is
in the project's folder, which every machine sees under the same path: the checkpoints are those of any training.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from precis.devices import process_group_backend
from precis.environment import close_environment
from precis.errors import PrecisError, UnreachableError
from precis.execution.ray_engine import ray_engine
from precis.training.workers import WorkerLostError

log = logging.getLogger(__name__)

_MAX_FAILURES = 10  # losses of a worker in one training
_READING_SECONDS = 1.0  # between two looks at what the workers say
_SETTLING_SECONDS = 5.0  # in which a worker that failed has said so
# what leads to the record's store, and to where the run came from
_VARIABLES = ("MLFLOW_", "AWS_", "PRECIS_", "DVC_EXP_NAME")


def run_on_ray(
    function: Callable[[], object],
    *,
    address: str | None,
    num_workers: int,
    cpus_per_worker: float,
    directory: Path,
) -> None:
    """Run a function in every worker of a training; after the loss of one, in all of them again.

    Args:
        function: of a module that every machine has; it finds torch's process group made.
        address: of the cluster; None starts one here, for as long as this takes.
        num_workers: of the training.
        cpus_per_worker: cores of each.
        directory: for what Ray Train notes; removed at the end.

    Raises:
        PrecisError: a worker did, or the cluster is too small.
        UnreachableError: no cluster answers, or workers were lost too often.
    """
    # Ray Train's own notices: whoever trains reads what the training says
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "0")
    with ray_engine(address, workers=num_workers, cpus_per_worker=cpus_per_worker):
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        cluster: Any = ray  # untyped in part
        resources = cluster.cluster_resources()
        _check_room(resources, num_workers, cpus_per_worker)
        use_gpu = resources.get("GPU", 0) >= num_workers
        board = cluster.remote(num_cpus=0)(_Board).remote()
        variables = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
        directory = directory.resolve()
        root = Path.cwd()
        trainer = TorchTrainer(
            lambda: _work(function, board, root, variables),
            torch_config=TorchConfig(backend=process_group_backend(use_gpu)),
            scaling_config=ScalingConfig(
                num_workers=num_workers, use_gpu=use_gpu, resources_per_worker={"CPU": cpus_per_worker}
            ),
            run_config=RunConfig(
                name="train",
                storage_path=str(directory),
                failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            ),
        )
        failure: Exception | None = None
        try:
            with _repeating(board):
                trainer.fit()
        except ray.train.TrainingFailedError as error:
            failure = error
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        _, told = cluster.get(board.read.remote())
    if told is not None:
        may_help_later, message = told
        raise (UnreachableError if may_help_later else PrecisError)(message)
    if failure is not None:
        raise UnreachableError(
            f"the workers on Ray ended {_MAX_FAILURES + 1} times before their training did; the last time with: "
            f"{_last_line(failure)}. Run this again to go on from the last checkpoint"
        ) from failure


class _Board:
    """Where workers write what is to be read by whoever started them."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str]] = []
        self._error: tuple[bool, str] | None = None

    def log(self, level: int, line: str) -> None:
        self._lines.append((level, line))

    def fail(self, may_help_later: bool, message: str) -> None:
        self._error = self._error or (may_help_later, message)

    def error(self) -> tuple[bool, str] | None:
        return self._error

    def read(self) -> tuple[list[tuple[int, str]], tuple[bool, str] | None]:
        lines, self._lines = self._lines, []
        return lines, self._error


class _BoardHandler(logging.Handler):
    """Writes the log of a worker to the board."""

    def __init__(self, board: Any) -> None:
        super().__init__()
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self._board.log.remote(record.levelno, self.format(record))


def _work(function: Callable[[], object], board: Any, root: Path, variables: dict[str, str]) -> None:
    """What a worker does: an error that a new attempt would meet again is told and not raised."""
    import ray
    from ray.train import get_context

    os.environ.update(variables)
    close_environment()
    ours = logging.getLogger("precis")
    ours.setLevel(logging.INFO if get_context().get_world_rank() == 0 else logging.WARNING)
    ours.addHandler(_BoardHandler(board))
    try:
        os.chdir(root)
        function()
    except WorkerLostError:
        # was it lost, or did it end because of an error?
        deadline = time.monotonic() + _SETTLING_SECONDS
        while time.monotonic() < deadline:
            if ray.get(board.error.remote()) is not None:
                return
            time.sleep(0.5)
        raise
    except PrecisError as error:
        ray.get(board.fail.remote(isinstance(error, UnreachableError), str(error)))
    except FileNotFoundError as error:
        if error.filename != str(root):
            raise
        message = f"a machine of the Ray cluster has no folder {root}: all of them must see the project under that path"
        ray.get(board.fail.remote(False, message))


@contextmanager
def _repeating(board: Any) -> Iterator[None]:
    """Log here what the workers log, for as long as the block lasts."""
    is_over = threading.Event()
    thread = threading.Thread(target=_repeat, args=(board, is_over), name="board", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(10)


def _repeat(board: Any, is_over: threading.Event) -> None:
    import ray

    is_last = False
    while not is_last:
        is_last = is_over.wait(_READING_SECONDS)
        lines, _ = ray.get(board.read.remote())
        for level, line in lines:
            log.log(level, "%s", line)


def _check_room(resources: dict[str, float], num_workers: int, cpus_per_worker: float) -> None:
    cores = resources.get("CPU", 0)
    if cores < num_workers * cpus_per_worker:
        raise PrecisError(
            f"train.devices x train.num_nodes are {num_workers} workers, and execution.cpus_per_worker "
            f"{cpus_per_worker:g} makes that {num_workers * cpus_per_worker:g} cores: the Ray cluster has {cores:g}. "
            "Take fewer workers, or add machines"
        )


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
