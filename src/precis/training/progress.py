"""What training shows while it runs: a bar on a terminal, lines in a log, sample summaries, the loss curve."""

from __future__ import annotations

import csv
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.loggers.logger import Logger

from precis.batches.batch import Batch
from precis.training.parcels import read_points
from precis.training.record import RunRecord
from precis.training.system import SummarizationSystem
from precis.training.workers import num_workers

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 30.0


class TrainingLoss(pl.Callback):
    """Logs the mean training loss of the updates since the last point, and the rate.

    Comes before the checkpoints in the list of callbacks, so that a checkpoint holds the sums after a point.
    """

    def __init__(self, every_updates: int) -> None:
        self._every_updates = every_updates

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log a point if it is time for one."""
        if trainer.global_step % self._every_updates == 0:
            assert isinstance(pl_module, SummarizationSystem)
            loss = pl_module.take_training_loss()
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            if trainer.logger is None:  # a worker that records nothing
                return
            trainer.logger.log_metrics({"train_loss": loss, "learning_rate": rate}, step=trainer.global_step)


class RecordLogger(Logger):
    """Lightning's logger in front of a run's record; counts the updates of the phases before."""

    def __init__(self, record: RunRecord, first_update: int) -> None:
        super().__init__()
        self._record = record
        self._first_update = first_update

    @property
    def name(self) -> str:
        """The experiment."""
        return self._record.experiment

    @property
    def version(self) -> str:
        """The run's fingerprint."""
        return self._record.fingerprint

    @property
    def experiment(self) -> RunRecord:
        """The record itself."""
        return self._record

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep the metrics in the record's local file."""
        assert step is not None
        self._record.log_metrics(metrics, self._first_update + step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the record has all parameters from its start."""


class Delivery(pl.Callback):
    """Sends what the record has after each validation."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Send the metrics."""
        self._record.deliver()


class LogLines(pl.Callback):
    """One line after each validation, and one now and then where no bar is shown."""

    def __init__(self, name: str, *, updates_per_epoch: int, num_updates: int) -> None:
        self._name = name
        self._updates_per_epoch = updates_per_epoch
        self._num_updates = num_updates
        self._tokens = 0
        self._updates = 0
        self._since = self._last_line = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = self._last_line = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the words of the batch; say where training is, if nothing else has."""
        # workers have shares of a batch of about the same size
        self._tokens += (int(batch.source_lengths.sum()) + batch.num_target_tokens) * num_workers()
        self._updates += 1
        now = time.monotonic()
        if not sys.stderr.isatty() and now - self._last_line > _SECONDS_BETWEEN_LINES:
            seconds = now - self._since
            log.info(
                "%s: update %d of %d, %.0f words/s, at most %.0f s left",
                self._name,
                trainer.global_step,
                self._num_updates,
                self._tokens / seconds,
                (self._num_updates - trainer.global_step) * seconds / self._updates,
            )
            self._last_line = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what the validation found."""
        update = trainer.global_step
        log.info(
            "%s: epoch %.1f, update %d of %d, validation loss %.4f",
            self._name,
            update / self._updates_per_epoch,
            update,
            self._num_updates,
            float(trainer.callback_metrics["validation_loss"]),
        )
        self._last_line = time.monotonic()


class SampleSummaries(pl.Callback):
    """A handful of validation summaries in the log and in the record, after each validation."""

    def __init__(self, record: RunRecord, summarize: Callable[[], list[tuple[str, str]]]) -> None:
        self._record = record
        self._summarize = summarize

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write summaries beside their references."""
        was_training = pl_module.training
        pl_module.eval()
        pairs = self._summarize()
        pl_module.train(was_training)
        lines = [f"  reference: {reference}\n  summary:   {summary}" for reference, summary in pairs]
        text = "\n\n".join(lines)
        if text:
            log.info("%s", text)
            self._record.log_text(text + "\n", f"samples/update_{trainer.global_step:06d}.txt")


class TrainingBar(TQDMProgressBar):
    """Lightning's bar under the model's name; the whole training is one bar."""

    def __init__(self, name: str) -> None:
        super().__init__(refresh_rate=10)
        self._name = name

    def init_train_tqdm(self) -> Tqdm:
        """The bar."""
        bar = super().init_train_tqdm()
        bar.leave = True
        return bar

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Show the model's name, not an epoch."""
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(self._name)


def write_history(spool: Path, path: Path, updates_per_epoch: int) -> None:
    """The loss curves as CSV: a row for each update that has a point.

    Columns: step, epoch, train_loss, validation_loss, learning_rate; empty where there is no point.
    """
    rows: dict[int, dict[str, float]] = {}
    for name, value, _, step in read_points(spool)[0]:
        rows.setdefault(step, {})[name] = value
    names = ["train_loss", "validation_loss", "learning_rate"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", "epoch", *names])
        for step in sorted(rows):
            values = [rows[step].get(name) for name in names]
            if any(value is not None for value in values):
                shown = ["" if value is None else f"{value:.6g}" for value in values]
                writer.writerow([step, f"{step / updates_per_epoch:.4f}", *shown])
