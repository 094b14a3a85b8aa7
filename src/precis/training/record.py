"""What a training tells of itself: kept in its folder at once, sent to MLflow beside the training."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from precis.errors import PrecisError
from precis.training.parcels import METRICS, SCORES, Courier, Parcel
from precis.training.tracking import DatasetRecord, configure

log = logging.getLogger(__name__)

_FIRST_WAIT = 5.0  # seconds for the store to say that the run cannot be made
_LAST_WAIT = {"FINISHED": 20.0, "FAILED": 5.0, "KILLED": 3.0}  # seconds for the store to take the rest


@dataclass
class RunRecord:
    """One training run's record. Training never waits for the store but at its two ends, and there for seconds.

    Args:
        directory: where all of it is kept until the store has it; not tracked by DVC.
        experiment: name of the MLflow experiment.
        name: what the run is called in the UI.
        fingerprint: digest of all that the model comes from; a run with it that was cut off goes on.
        params: flat, as MLflow shows them.
        tags: what else finds and groups runs.
        datasets: what was read.
    """

    directory: Path
    experiment: str
    name: str
    fingerprint: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    datasets: list[DatasetRecord]
    is_delivered: bool = field(default=False, init=False)
    _courier: Courier | None = field(default=None, init=False)

    @property
    def spool(self) -> Path:
        """The local file: a line [name, value, milliseconds, step] for each point."""
        return self.directory / METRICS

    @property
    def parcel(self) -> Parcel:
        """All that the store is to be told."""
        return self._parcel

    def __post_init__(self) -> None:
        self._parcel = Parcel(self.directory)

    def start(self) -> None:
        """Begin to send; what an earlier part of this training left over, too.

        Raises:
            PrecisError: the store says that there can be no such run.
        """
        self._parcel.go_on()
        run = {
            "experiment": self.experiment,
            "name": self.name,
            "params": dict(self.params),
            "tags": dict(self.tags),
            "datasets": [asdict(dataset) for dataset in self.datasets],
        }
        self._parcel.write_head(self.fingerprint, run)
        client = configure()
        self._courier = Courier(lambda: self._parcel.send(client), self._say)
        self._courier.wait(_FIRST_WAIT)
        if isinstance(self._courier.error, PrecisError):
            raise self._courier.error

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep points of the curves in the local file; `deliver` sends them."""
        self._parcel.add_points(METRICS, metrics, step)

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Metrics of the training as a whole; not part of its curves."""
        self._parcel.add_points(SCORES, metrics, 0)

    def log_directory(self, directory: Path, artifact_path: str) -> None:
        """Have a folder of files sent."""
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                inside = path.relative_to(directory).as_posix()
                self._parcel.add_file(f"{artifact_path}/{inside}", partial(shutil.copyfile, path))

    def log_file(self, path: Path) -> None:
        """Have a file sent."""
        self._parcel.add_file(path.name, partial(shutil.copyfile, path))

    def log_text(self, text: str, artifact_file: str) -> None:
        """Have a text sent as a file."""
        self._parcel.add_file(artifact_file, partial(_write, text))

    def keep(self) -> None:
        """See that the curves survive a loss of power."""
        self._parcel.keep()

    def deliver(self) -> None:
        """Have sent what the store does not have yet; returns at once."""
        if self._courier is not None:
            self._courier.call()

    def end(self, status: str) -> None:
        """Close the run: FINISHED, FAILED or KILLED. What the store does not take in time waits."""
        self._parcel.end(status)
        if self._courier is None:
            return
        self.is_delivered = self._courier.close(_LAST_WAIT[status]) and self._parcel.has_arrived
        if not self.is_delivered:
            log.warning(
                "MLflow did not answer in time (%s): %s wait in %s and are sent by the next run, or by "
                "`precis doctor --repair`",
                self._courier.reason,
                self._parcel.contents,
                self.directory,
            )

    def _say(self, reason: str | None) -> None:
        if reason is None:
            log.info("MLflow answers again: all metrics are delivered")
        else:
            log.warning(
                "MLflow does not answer; training goes on and metrics wait in %s (%s)", self.spool, reason
            )


def _write(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
