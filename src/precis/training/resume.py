"""Stopping at any update and going on to the same bytes as a training that was never stopped."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from precis.training import workers

log = logging.getLogger(__name__)

_KEPT_CHECKPOINTS = 2
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Resume(pl.Callback):
    """Writes checkpoints, restores the random state, and stops in good order on a signal or at a time limit.

    A checkpoint is written after every `every_updates` updates, `every_minutes` after the last one, before each
    validation, and when SIGTERM or SIGINT asks to stop. None is written at an update that a validation follows:
    Lightning would take the validation for done.

    Of several workers the first one's clock decides, a signal to any of them stops all, and each one's random state is
    in the checkpoint.

    Args:
        directory: where the checkpoints are kept.
        every_updates: updates between two checkpoints.
        every_minutes: minutes between two checkpoints; 0: however long that takes.
        validation_interval: updates between two validations.
        max_minutes: of training, over all its parts; 0 for no limit.
        before_checkpoint: called before each one is written.
        on_checkpoint: called after each one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        every_updates: int,
        every_minutes: float,
        validation_interval: int,
        max_minutes: float,
        before_checkpoint: Callable[[], object],
        on_checkpoint: Callable[[], object],
    ) -> None:
        self._directory = directory
        self._every_updates = every_updates
        self._every_seconds = every_minutes * 60
        self._validation_interval = validation_interval
        self._max_seconds = max_minutes * 60
        self._before_checkpoint = before_checkpoint
        self._on_checkpoint = on_checkpoint
        self._last_checkpoint = 0.0
        # of each worker: the last checkpoint's, and where to go on from
        self._random_states: list[torch.Tensor] = []
        self._random_state: torch.Tensor | None = None
        self._seconds_before = 0.0
        self._started = 0.0
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}
        # before Lightning puts its own in front, which talks to workers that may be gone
        self._outer_handlers: dict[int, Any] = {number: signal.getsignal(number) for number in _SIGNALS}

    @property
    def signal(self) -> int | None:
        """The signal that asked to stop, if one did."""
        return self._signal

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all its parts."""
        return self._seconds_before + (time.monotonic() - self._started if self._started else 0.0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals: the next whole update is a better end than the middle of this one."""
        self._started = self._last_checkpoint = time.monotonic()
        if threading.current_thread() is not threading.main_thread():
            return  # a worker of Ray: whoever started it hears the signals
        for number in _SIGNALS:
            self._handlers[number] = signal.signal(number, self._ask_to_stop)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore the random state at the first update: whatever was set up before has drawn from it."""
        if self._random_state is not None:
            torch.set_rng_state(self._random_state)
            self._random_state = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if it is time for one; stop if that was asked for."""
        update = trainer.global_step
        self._signal, clock_says_so, is_over = self._agreed(
            0 < self._every_seconds <= time.monotonic() - self._last_checkpoint,
            0 < self._max_seconds <= self.seconds,
        )
        validation_follows = update % self._validation_interval == 0
        is_due = (
            update % self._every_updates == 0
            or (update + 1) % self._validation_interval == 0
            or clock_says_so
        )
        if not validation_follows and (is_due or self._signal is not None):
            self.write_checkpoint(trainer)
        if self._signal is not None:
            self._leave()
        if is_over and not trainer.should_stop:
            if workers.is_first():
                log.info("stopping: %.1f minutes of training are over", self._max_seconds / 60)
            trainer.should_stop = True

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation is not finished first: the checkpoint before it is one update old."""
        self._signal, *_ = self._agreed()
        if self._signal is not None:
            self._leave()

    def write_checkpoint(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint now and remove all but the last two."""
        self._before_checkpoint()
        self._random_states = workers.gathered(torch.get_rng_state())
        trainer.save_checkpoint(self._directory / f"{trainer.global_step:08d}.ckpt")
        if workers.is_first():
            for path in sorted(self._directory.glob("*.ckpt"))[:-_KEPT_CHECKPOINTS]:
                trainer.strategy.checkpoint_io.remove_checkpoint(path)
        self._last_checkpoint = time.monotonic()
        self._on_checkpoint()

    def state_dict(self) -> dict[str, Any]:
        """Goes into the checkpoint."""
        return {"random_states": self._random_states, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from the checkpoint."""
        self._random_state = state_dict["random_states"][workers.rank()]
        self._seconds_before = state_dict["seconds"]

    def begin_with(self, random_state: torch.Tensor) -> None:
        """Have the first update draw from this, if no checkpoint says otherwise."""
        self._random_state = random_state

    def _agreed(self, is_due: bool = False, is_over: bool = False) -> tuple[int | None, bool, bool]:
        """The signal that any worker has had, and what the first one's clock says: the same on all of them."""
        if not workers.is_distributed():
            return self._signal, is_due, is_over
        mine = workers.is_first()
        number, due, over = workers.highest([self._signal or 0, int(is_due and mine), int(is_over and mine)])
        return number or None, bool(due), bool(over)

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self._signal is None:
            self._signal = number
            if workers.is_first():
                log.info("stopping after this update; the next run goes on from there")
        else:
            self._leave()

    def _leave(self) -> None:
        number = self._signal
        assert number is not None
        self._restore_handlers()
        if workers.is_distributed():
            if not workers.is_first():
                raise SystemExit(0)  # how all of it ended is for the first one to say
            signal.signal(number, self._outer_handlers[number])
        # the handler that was there before decides how the process ends
        signal.raise_signal(number)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
