"""One training from its first update, or its last checkpoint, to the best model."""

from __future__ import annotations

import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch

from precis.batches.data_module import EncodedDataModule
from precis.devices import lightning_settings
from precis.errors import PrecisError
from precis.models.base import SummarizationModel
from precis.models.storage import save_model
from precis.training import workers
from precis.training.best_model import BestModel, check_best_model
from precis.training.checkpoints import (
    AtomicCheckpointIO,
    newest_whole_checkpoint,
    remove_checkpoint_leftovers,
)
from precis.training.flight_recorder import FlightRecorder
from precis.training.placement import cluster_plugins, prepared_for_ray, trainer_settings
from precis.training.progress import (
    Delivery,
    LogLines,
    RecordLogger,
    SampleSummaries,
    TrainingBar,
    TrainingLoss,
)
from precis.training.record import RunRecord
from precis.training.resume import Resume
from precis.training.system import SummarizationSystem

log = logging.getLogger(__name__)

_SEEDS_APART = 1_000_003  # more than a training has updates


@dataclass(frozen=True)
class Trained:
    """What a training ended with.

    Attributes:
        directory: holds the best model's weights and configuration.
        best_loss: validation loss of the best model.
        best_update: the update after which it was validated, counted over all phases.
        num_updates: updates done, over all phases.
        seconds: of training, over all its parts.
    """

    directory: Path
    best_loss: float
    best_update: int
    num_updates: int
    seconds: float


def train(
    model: SummarizationModel,
    data: EncodedDataModule,
    record: RunRecord | None,
    directory: Path,
    *,
    name: str,
    summarize: Callable[[], list[tuple[str, str]]],
    seed: int,
    num_updates: int,
    validation_interval: int,
    max_minutes: float,
    precision: Literal["full", "bfloat16"],
    optimizer: str,
    learning_rate: float,
    warmup_updates: int,
    final_learning_rate: float,
    weight_decay: float,
    gradient_clip: float,
    consistency_weight: float,
    patience: int,
    log_every_updates: int,
    checkpoint_every_updates: int,
    checkpoint_every_minutes: float,
    max_skipped_batches: int,
    devices: int = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    coverage_speedup: float = 1.0,
    first_update: int = 0,
    first_batch: int | None = None,
    rank: Callable[[float], tuple[float, ...]] = lambda loss: (loss,),
) -> Trained:
    """Train until the last update, or until validation says that it is enough.

    Every worker of a training calls this; the first one writes all there is to write.

    Args:
        model: with its initial weights; trained in place.
        data: the batches.
        record: where the metrics go; None on workers but the first.
        directory: where checkpoints and the best model are kept; a checkpoint in it is gone on from.
        name: the model's name, for people.
        summarize: gives pairs of reference and summary for a few validation rows.
        seed: of dropout.
        num_updates: at the most.
        validation_interval: updates between two validations.
        max_minutes: of training; 0 for no limit.
        precision: full, or bfloat16 for the products; weights and losses stay in float32.
        optimizer: adam or adagrad.
        learning_rate: the highest.
        warmup_updates: updates in which the learning rate rises to it.
        final_learning_rate: the share of the highest that is left at the end.
        weight_decay: decoupled; for Adam only.
        gradient_clip: the largest norm of all gradients together.
        consistency_weight: alpha of R-Drop; 0: batches are read once.
        patience: validations in a row without a better one after which training stops.
        log_every_updates: updates between two points of the training loss.
        checkpoint_every_updates: updates between two checkpoints.
        checkpoint_every_minutes: minutes between two checkpoints; 0: however long that takes.
        max_skipped_batches: non-finite updates that are left out before training stops.
        devices: workers on each machine.
        num_nodes: machines.
        strategy: see `precis.training.placement.trainer_settings`.
        coverage_speedup: how many times faster the weights learn that only coverage has.
        first_update: updates of the phases before this one.
        first_batch: where this one begins in the order of the data; None: as many batches as updates are done.
        rank: of a validation by its loss, as `BestModel` takes it; the model then has the weights validated.

    Raises:
        PrecisError: a loss or gradient is not finite, or nothing was ever validated.
    """
    model.train()  # Lightning would leave a model that has just been decoded with without dropout
    data.plan(
        num_updates,
        first_update=first_update if first_batch is None else first_batch,
        worker=workers.rank(),
        num_workers=workers.num_workers(),
    )
    # each worker draws its own dropout
    torch.manual_seed(seed + first_update + workers.rank() * _SEEDS_APART)
    checkpoint = workers.from_first(lambda: _checkpoint_to_go_on_from(directory))
    if checkpoint is not None:
        update = int(checkpoint.stem)
        data.start_at(update)
        if workers.is_first():
            log.info("%s: going on from update %d of %d", name, update, num_updates)

    system = SummarizationSystem(
        model,
        optimizer=optimizer,
        learning_rate=learning_rate,
        warmup_updates=warmup_updates,
        final_learning_rate=final_learning_rate,
        total_updates=num_updates,
        weight_decay=weight_decay,
        gradient_clip=gradient_clip,
        consistency_weight=consistency_weight,
        coverage_speedup=coverage_speedup,
        recorder=FlightRecorder(directory, row_id=data.training.row_id, max_skipped=max_skipped_batches),
    )
    best = BestModel(
        directory / "best",
        save=lambda path: save_model(model, path),
        rank=rank,
        patience=patience,
        first_update=first_update,
    )
    resume = Resume(
        directory,
        every_updates=checkpoint_every_updates,
        every_minutes=checkpoint_every_minutes,
        validation_interval=validation_interval,
        max_minutes=max_minutes,
        before_checkpoint=record.keep if record is not None else _nothing,
        on_checkpoint=record.deliver if record is not None else _nothing,
    )
    if workers.is_distributed():  # Lightning seeds all workers alike when it sets them up
        resume.begin_with(torch.get_rng_state())
    on_terminal = sys.stderr.isatty() and record is not None
    callbacks: list[pl.Callback] = [TrainingLoss(log_every_updates), best, resume]
    if record is not None:
        callbacks = [
            TrainingLoss(log_every_updates),
            LogLines(name, updates_per_epoch=data.updates_per_epoch, num_updates=num_updates),
            best,
            SampleSummaries(record, summarize),
            Delivery(record),
            *([TrainingBar(name)] if on_terminal else []),
            resume,
        ]
    trainer = pl.Trainer(
        **lightning_settings(precision),
        **trainer_settings(devices, num_nodes, strategy),
        max_epochs=1,
        val_check_interval=validation_interval,
        num_sanity_val_steps=0,
        logger=RecordLogger(record, first_update) if record is not None else False,
        log_every_n_steps=1,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *cluster_plugins(strategy)],
        enable_checkpointing=False,
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=directory,
    )
    if strategy == "ray":
        trainer = prepared_for_ray(trainer)
    with warnings.catch_warnings():
        # the loader maps memory and needs no workers; what it has given is known from the update's number
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")
        # validation sums over the workers itself
        warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
        try:
            trainer.fit(system, datamodule=data, ckpt_path=checkpoint)
        except SystemExit as error:
            if resume.signal == signal.SIGINT and workers.is_first():  # Lightning makes exit code 1 of it
                raise KeyboardInterrupt from error
            raise
        if trainer.global_step % validation_interval != 0:
            # stopped by the clock: what it learned since the last validation counts, too
            trainer.validate(system, datamodule=data, verbose=False)
    if not math.isfinite(best.best_loss):
        raise workers.told_by_first(
            PrecisError(
                f"{name}: no validation had a finite loss; "
                "lower train.learning_rate or look at data/prepared/validation.parquet"
            )
        )
    workers.from_first(lambda: check_best_model(directory / "best"))
    return Trained(
        directory=directory / "best",
        best_loss=best.best_loss,
        best_update=best.best_update,
        num_updates=first_update + trainer.global_step,
        seconds=resume.seconds,
    )


def validation_plan(updates_per_epoch: int, max_epochs: float, validations_per_epoch: int) -> tuple[int, int]:
    """Updates of a training, rounded up to whole validations, and updates between two of them."""
    interval = math.ceil(updates_per_epoch / validations_per_epoch)
    num_validations = max(1, math.ceil(updates_per_epoch * max_epochs / interval))
    return num_validations * interval, interval


def _nothing() -> None:
    """What a worker does that records nothing."""


def _checkpoint_to_go_on_from(directory: Path) -> Path | None:
    remove_checkpoint_leftovers(directory)
    checkpoint, damaged = newest_whole_checkpoint(directory)
    for path in damaged:
        log.warning(
            "%s is damaged and not used: %s",
            path,
            f"going on from {checkpoint.name}" if checkpoint else "training starts anew",
        )
        path.unlink()
    return checkpoint
