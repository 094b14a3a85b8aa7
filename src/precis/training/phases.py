"""The phases of a training: sentences of the documents, if asked for; the summaries; coverage, if it pays.

See et al. (2017, section 5) found that coverage taught from the start spoils the model, and that a short
phase at the end is enough. Here it is switched on when validation no longer gets better, and judged on that split.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from precis.batches.data_module import EncodedDataModule
from precis.files import atomic_path
from precis.models.base import SummarizationModel
from precis.models.storage import WEIGHTS_FILE
from precis.training import workers
from precis.training.best_model import check_best_model
from precis.training.record import RunRecord
from precis.training.run import Trained, train, validation_plan

log = logging.getLogger(__name__)

_TRAINED_FILE = "trained.json"
_DOCUMENTS, _PLAIN, _COVERAGE = "documents", "plain", "coverage"  # folders of the phases
_VALIDATIONS = 5  # of the phase with coverage
_ENOUGH = 0.25  # share of the repetition that may be left: below it the likelihood decides what is best


def train_in_phases(
    model: SummarizationModel,
    data: EncodedDataModule,
    record: RunRecord | None,
    directory: Path,
    *,
    name: str,
    repetition: Callable[[], float],
    pretraining: EncodedDataModule | None,
    pretraining_epochs: int,
    max_epochs: float,
    max_minutes: float,
    validations_per_epoch: int,
    coverage_updates: int,
    coverage_learning_rate: float,
    coverage_speedup: float,
    coverage_max_loss: float,
    coverage_min_repetition: float,
    **settings: Any,
) -> Trained:
    """Train without coverage; then, if summaries repeat themselves, with it; keep what is better.

    With `pretraining` there is a phase before these, whose best weights (of the validation split, as ever) are the
    first ones of the next.

    The phase without coverage ends when validation has not become better for a while, or with its last update, to which
    the learning rate has fallen so low that validation stands still. Each phase leaves a file when it is done, so
    that an interrupted training goes on in the right one.

    Args:
        model: with or without coverage; one without has one phase.
        data: the batches; the second phase takes up their order where the first one left it.
        record: where the metrics go; None on workers but the first.
        directory: holds a folder for each phase.
        name: the model's name, for people.
        repetition: the share of three-word phrases in validation summaries that repeat an earlier one.
        pretraining: pairs that the documents make by themselves; None or no rows: no such phase.
        pretraining_epochs: how often it sees each of them.
        max_epochs: how often the phase after it sees every row at the most; rounded up to whole validations.
        max_minutes: of all phases together but the one with coverage, which has as many again; 0 for no limit.
        validations_per_epoch: how often the validation split is read in an epoch of the first phase.
        coverage_updates: length of the second phase, rounded up to whole validations; 0: coverage is on from the
            start, in one phase.
        coverage_learning_rate: of the second phase, as a share of the highest.
        coverage_speedup: how many times faster the weights learn there that only coverage has.
        coverage_max_loss: by which share the validation loss may grow.
        coverage_min_repetition: below it there is nothing to gain, and no second phase.
        settings: of `train`.
    """
    settings["max_minutes"] = max_minutes
    num_updates, interval = validation_plan(data.updates_per_epoch, max_epochs, validations_per_epoch)
    first = {**settings, "num_updates": num_updates, "validation_interval": interval, "first_batch": 0}
    has_coverage_phase = bool(model.options.get("coverage")) and coverage_updates > 0
    if has_coverage_phase:
        model.switch_coverage(False)
    pretrained = None
    if pretraining is not None and pretraining_epochs:
        pretrained = _pretrained(
            model, pretraining, record, _made(directory / _DOCUMENTS), name, pretraining_epochs, settings
        )
        _load(model, pretrained.directory)
        first["first_update"] = pretrained.num_updates
        if max_minutes:  # the least there is: one update, and its validation
            first["max_minutes"] = max(max_minutes - pretrained.seconds / 60, 1e-3)
    seconds_before = 0.0 if pretrained is None else pretrained.seconds
    if not has_coverage_phase:
        trained = train(model, data, record, _made(directory / _PLAIN), name=name, **first)
        return replace(trained, seconds=seconds_before + trained.seconds)
    plain = workers.from_first(lambda: _finished(directory / _PLAIN))
    if plain is None:
        plain = train(model, data, record, _made(directory / _PLAIN), name=name, **first)
        plain = replace(plain, seconds=seconds_before + plain.seconds)
        _finish(directory / _PLAIN, plain)
    _load(model, plain.directory)
    before = workers.from_first(repetition)
    if record is not None:
        record.log_summary({"repetition_without_coverage": before})
    if before < coverage_min_repetition:
        _say("%s: %.1f %% of phrases repeat, so coverage is not needed", name, 100 * before)
        return plain

    _say("%s: %.1f %% of phrases repeat; trying coverage", name, 100 * before)
    model.switch_coverage(True)
    without, enough = plain, max(_ENOUGH * before, coverage_min_repetition)

    def rank(loss: float) -> tuple[float, ...]:
        share = repetition()
        log.info("%s with coverage: %.1f %% of phrases repeat", name, 100 * share)
        return max(0.0, _growth(loss, without) - coverage_max_loss), max(0.0, share - enough), loss

    interval = -(-coverage_updates // _VALIDATIONS)
    second = {
        **settings,
        "num_updates": interval * _VALIDATIONS,
        "validation_interval": interval,
        "learning_rate": settings["learning_rate"] * coverage_learning_rate,
        "warmup_updates": 0,
        "patience": _VALIDATIONS,
    }
    covered = train(
        model,
        data,
        record,
        _made(directory / _COVERAGE),
        name=f"{name} with coverage",
        first_update=plain.num_updates,
        first_batch=plain.num_updates - (0 if pretrained is None else pretrained.num_updates),
        coverage_speedup=coverage_speedup,
        rank=rank,
        **second,
    )
    _load(model, covered.directory)
    after, growth = workers.from_first(repetition), _growth(covered.best_loss, plain)
    pays = after < before and growth <= coverage_max_loss
    if record is not None:
        record.log_summary(
            {"repetition_with_coverage": after, "coverage_loss_growth": growth, "coverage_kept": float(pays)}
        )
    _say(
        "%s: coverage is %s: repeated phrases from %.1f %% to %.1f %%, validation loss %+.1f %%",
        name,
        "kept" if pays else "undone",
        100 * before,
        100 * after,
        100 * growth,
    )
    chosen = covered if pays else plain
    return replace(chosen, num_updates=covered.num_updates, seconds=plain.seconds + covered.seconds)


def _pretrained(
    model: SummarizationModel,
    pretraining: EncodedDataModule,
    record: RunRecord | None,
    directory: Path,
    name: str,
    epochs: int,
    settings: dict[str, Any],
) -> Trained:
    """Train on the sentences of the documents, unless that is done; judged by validation summaries, as ever."""
    trained = workers.from_first(lambda: _finished(directory))
    if trained is None:
        num_updates, interval = validation_plan(pretraining.updates_per_epoch, epochs, 1)
        trained = train(
            model,
            pretraining,
            record,
            directory,
            name=f"{name} on sentences of its documents",
            num_updates=num_updates,
            validation_interval=interval,
            **settings,
        )
        _finish(directory, trained)
    return trained


def _load(model: SummarizationModel, directory: Path) -> None:
    """Give every worker's model the weights that the first one wrote."""
    model.load_state_dict(workers.from_first(lambda: load_file(directory / WEIGHTS_FILE)))


def _say(message: str, *values: object) -> None:
    if workers.is_first():
        log.info(message, *values)


def remove_checkpoints(directory: Path) -> None:
    """Remove what only a training needs that goes on."""
    for phase in (_DOCUMENTS, _PLAIN, _COVERAGE):
        shutil.rmtree(directory / phase, ignore_errors=True)


def _growth(loss: float, plain: Trained) -> float:
    return loss / plain.best_loss - 1


def _made(directory: Path) -> Path:
    if workers.is_first():
        directory.mkdir(exist_ok=True)
    return directory


def _finish(directory: Path, trained: Trained) -> None:
    if not workers.is_first():
        return
    values = {**asdict(trained), "directory": trained.directory.name}
    with atomic_path(directory / _TRAINED_FILE) as path:
        path.write_text(json.dumps(values), encoding="utf-8")


def _finished(directory: Path) -> Trained | None:
    path = directory / _TRAINED_FILE
    if not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    trained = Trained(**{**values, "directory": directory / values["directory"]})
    check_best_model(trained.directory)
    return trained
