"""Keeps the weights of the best validation and stops when there is no better one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from safetensors import SafetensorError

from precis.errors import PrecisError
from precis.files import atomic_directory
from precis.manifest import check_manifest, write_manifest
from precis.training.checkpoints import refuse_non_finite
from precis.training.workers import from_first, is_first

log = logging.getLogger(__name__)


def check_best_model(directory: Path) -> None:
    """See that the best model is as it was written: it may lie there for days.

    Raises:
        PrecisError: it is not.
    """
    try:
        check_manifest(directory)
    except PrecisError as error:
        raise PrecisError(f"{error}\nremove {directory.parent} to train anew") from error


class BestModel(pl.Callback):
    """Early stopping, with the best weights on disk as a model and not as a checkpoint.

    Of several workers the first one ranks and writes; all of them know what came of it.

    Args:
        directory: where the best model goes.
        save: writes the model into a folder.
        rank: of a validation by its loss: numbers of which the smaller ones are better; the first decides, among
            equals the second, and so on.
        patience: validations in a row without a better loss after which training stops.
        first_update: updates of the phases before.
    """

    def __init__(
        self,
        directory: Path,
        *,
        save: Callable[[Path], None],
        rank: Callable[[float], tuple[float, ...]],
        patience: int,
        first_update: int,
    ) -> None:
        self._directory = directory
        self._first_update = first_update
        self._save = save
        self._rank = rank
        self._best_rank: tuple[float, ...] = ()
        self._patience = patience
        self.best_loss = math.inf
        self.best_update = 0
        self.num_worse = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the model if it is the best so far; stop if the last ones were not."""
        loss = float(trainer.callback_metrics["validation_loss"])
        rank = from_first(lambda: self._rank(loss))
        if math.isfinite(loss) and (not self._best_rank or rank < self._best_rank):
            self._best_rank = rank
            self.best_loss = loss
            self.best_update = self._first_update + trainer.global_step
            self.num_worse = 0
            from_first(lambda: self._write(pl_module))
            return
        self.num_worse += 1
        if self.num_worse >= self._patience:
            if is_first():
                log.info(
                    "stopping early: nothing better than update %d (validation loss %.4f) in %d validations",
                    self.best_update,
                    self.best_loss,
                    self.num_worse,
                )
            trainer.should_stop = True

    def _write(self, pl_module: pl.LightningModule) -> None:
        refuse_non_finite(pl_module.state_dict())
        with atomic_directory(self._directory) as directory:
            try:
                self._save(directory)
                write_manifest(directory)
            except SafetensorError as error:
                raise PrecisError(f"{self._directory} cannot be written: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Goes into the checkpoint."""
        return {
            "best_rank": list(self._best_rank),
            "best_loss": self.best_loss,
            "best_update": self.best_update,
            "num_worse": self.num_worse,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Comes from the checkpoint."""
        self._best_rank = tuple(state_dict["best_rank"])
        self.best_loss = state_dict["best_loss"]
        self.best_update = state_dict["best_update"]
        self.num_worse = state_dict["num_worse"]
