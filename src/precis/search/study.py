"""The search itself: trials one after another, each a training that stops early when it lags behind.

What is known of a search lies in one folder: Optuna's study in SQLite, and a folder for each trial in which the
stages run. A search that was stopped or killed goes on there, the trial that was cut off from its last checkpoint.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from precis.corpora.overrides import plain
from precis.errors import PrecisError
from precis.search.space import Space, nested, with_values
from precis.search.tracking import SearchRecord
from precis.search.workbench import encode_corpus, make_folder, remove_folder, run_stage, without_test

log = logging.getLogger(__name__)

_FOLDER = "folder"  # user attribute of a trial: where it runs, also after an interruption
_FAILURES = 3  # trials in a row that may fail before it is the search that is wrong
_DRAWS = 50  # of values that were tried before, after which a small space is taken to be searched
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)
_STARTUP = 3  # trials that are never stopped early: what the others are compared with
# a word that a model cannot write is in no validation loss: without a price for it, the smallest vocabulary won
_UNREACHABLE_NLL = 11.5  # nats: as improbable as one of 100,000 words


@dataclass(frozen=True)
class Score:
    """What a trained model reaches on validation, in points, and the decoding with which."""

    rouge1: float
    rouge2: float
    decoding: dict[str, Any]

    @property
    def value(self) -> float:
        """What the search maximises, as the choice of decoding does."""
        return self.rouge1 + self.rouge2


@dataclass(frozen=True)
class Search:
    """What is searched, and where.

    Attributes:
        folder: of this search alone.
        values: params.yaml as it is.
        space: what may change in it.
        model: the model's name.
        prepared: the folder of the prepared rows.
        score: scores a trained model, given the folder of its trial.
        seed: of the sampler.
    """

    folder: Path
    values: Any
    space: Space
    model: str
    prepared: Path
    score: Callable[[Path], Score]
    seed: int

    def run(self, *, trials: int, minutes: float, record: SearchRecord) -> optuna.Study:
        """Run trials until there are so many in all, or the time is over.

        Raises:
            PrecisError: another search is in the folder, or trials keep failing.
        """
        with _only_one(self.folder):
            study = self._study()
            # Optuna does not keep the state of its sampler: with the same seed it would draw the same again
            study.sampler = _sampler(self.seed + len(study.get_trials(deepcopy=False)))
            self._take_up(study)
            deadline = time.monotonic() + 60 * minutes
            failures = 0
            while _finished(study) < trials:
                if time.monotonic() >= deadline:
                    log.info("the time is over: the same command goes on with it")
                    break
                trial = self._new_values(study)
                if trial is None:
                    log.info("all values have been tried that were drawn %d times in a row", _DRAWS)
                    break
                error = self._run_trial(study, trial, deadline, record)
                failures = failures + 1 if error else 0
                if error and failures == _FAILURES:
                    raise PrecisError(f"{failures} trials in a row failed, the last one so: {error}")
        return study

    def _study(self) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        return optuna.create_study(
            storage=f"sqlite:///{(self.folder / 'study.db').resolve()}",
            study_name=self.model,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_STARTUP),
            load_if_exists=True,
        )

    def _new_values(self, study: optuna.Study) -> Trial | None:
        """A trial of values that were not tried before: equal trainings give equal models."""
        tried = [trial.params for trial in study.get_trials(states=_ENDED)]
        for _ in range(_DRAWS):
            trial = study.ask(self.space)
            if trial.params not in tried:
                return trial
            study.tell(trial, state=TrialState.FAIL)
        return None

    def _take_up(self, study: optuna.Study) -> None:
        """Have a trial that was cut off tried again, in its folder: training goes on from its checkpoint."""
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
            # Optuna's trials do not go on; this one is asked for again, with what it has tried
            study.enqueue_trial(trial.params, user_attrs={_FOLDER: _folder_of(trial)})
            log.info("going on with trial %s, which was cut off", _folder_of(trial))

    def _run_trial(
        self, study: optuna.Study, trial: Trial, deadline: float, record: SearchRecord
    ) -> PrecisError | None:
        name = str(trial.user_attrs.get(_FOLDER, f"{trial.number:04d}"))
        trial.set_user_attr(_FOLDER, name)
        folder = self.folder / "trials" / name
        log.info(
            "trial %s: %s", name, ", ".join(f"{key} {_short(value)}" for key, value in trial.params.items())
        )
        try:
            stopped = self._train(trial, folder, deadline, record)
            if stopped == _TIME:
                # left as running: the next call takes it up
                return None
            if stopped is not None:
                study.tell(trial, state=TrialState.PRUNED)
                log.info("trial %s: stopped, %s", name, stopped)
                remove_folder(folder)
                return None
            score = self.score(folder)
        except PrecisError as error:
            study.tell(trial, state=TrialState.FAIL)
            log.warning("trial %s failed: %s", name, error)
            return error
        for key, value in (("rouge1", score.rouge1), ("rouge2", score.rouge2), ("decoding", score.decoding)):
            trial.set_user_attr(key, value)
        study.tell(trial, score.value)
        is_best = study.best_trial.number == trial.number
        log.info(
            "trial %s: ROUGE-1 %.2f, ROUGE-2 %.2f%s",
            name,
            score.rouge1,
            score.rouge2,
            ", the best so far" if is_best else "",
        )
        record.log_trial(folder / "models" / self.model, trial.number, score.rouge1, score.rouge2)
        record.log_best(study.best_value, trial.number)
        self._keep_only(_folder_of(study.best_trial))
        return None

    def _train(self, trial: Trial, folder: Path, deadline: float, record: SearchRecord) -> str | None:
        if (folder / "models" / self.model / "run.json").is_file():
            return None  # it was cut off later, while it was scored
        values = with_values(self.values, trial.params, "the values of this trial")
        log_file = folder / "log.txt"
        prepared = without_test(self.folder / "prepared", self.prepared)
        encoded = encode_corpus(self.folder / "encoded", values, prepared, log_file)
        make_folder(folder, values, prepared=prepared, encoded=encoded)
        watcher = _Watcher(trial, folder / ".work" / "train" / self.model, deadline, record)
        return run_stage("train", folder, log_file, "--model", self.model, watch=watcher.look)

    def _keep_only(self, best: str) -> None:
        for folder in (self.folder / "trials").iterdir():
            if folder.name != best:
                remove_folder(folder)


_TIME = "the time is over"


class _Watcher:
    """Reads what a training writes of itself, and says when it is to stop."""

    def __init__(self, trial: Trial, directory: Path, deadline: float, record: SearchRecord) -> None:
        self._trial = trial
        self._directory = directory
        self._deadline = deadline
        self._record = record
        self._num_told = 0

    def look(self) -> str | None:
        """The reason to stop, if there is one."""
        for fingerprint in self._fingerprints():
            self._record.adopt(fingerprint, self._trial.number)
        losses = self._losses()
        for number, loss in enumerate(losses[self._num_told :], self._num_told + 1):
            # maximised, as the study is
            self._trial.report(-loss, number)
            self._num_told = number
            if self._trial.should_prune():
                return f"its validation loss {loss:.3f} after {number} validations is worse than the median"
        return _TIME if time.monotonic() >= self._deadline else None

    def _fingerprints(self) -> list[str]:
        return [path.name for path in self._directory.glob("*") if path.is_dir()]

    def _losses(self) -> list[float]:
        """After each validation, with a price for the words that no model of this vocabulary can write."""
        points: dict[str, dict[int, float]] = {"validation_loss": {}, "validation_unreachable": {}}
        for spool in self._directory.glob("*/metrics.jsonl"):
            for line in spool.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):  # not in the middle of being written
                    name, value, _, step = json.loads(line)
                    if name in points:
                        points[name][step] = value
        unreachable = points["validation_unreachable"]
        return [
            loss * (1 - unreachable[step]) + _UNREACHABLE_NLL * unreachable[step]
            for step, loss in sorted(points["validation_loss"].items())
            if step in unreachable
        ]


def search_digest(values: Any, space: Space, model: str, prepared: Path, **settings: Any) -> str:
    """Of all that the results of a search depend on: the same digest, the same search."""
    sections = ("text", "vocabulary", "encode", "model", "train", "decoding", "evaluation")
    said = {name: plain(values[name]) for name in sections}
    ranges = {name: str(distribution) for name, distribution in sorted(space.items())}
    digest = hashlib.sha256(json.dumps([said, ranges, model, settings], sort_keys=True).encode())
    for split in ("train", "validation"):
        with (prepared / f"{split}.parquet").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def best_recipe(study: optuna.Study) -> dict[str, Any]:
    """The best trial as a recipe: what `precis recipe` merges into params.yaml."""
    best = study.best_trial
    attributes = best.user_attrs
    return {
        "description": (
            f"The best of {_finished(study)} trials of precis search: ROUGE-1 {attributes['rouge1']:.2f}, "
            f"ROUGE-2 {attributes['rouge2']:.2f} on validation, model {study.study_name}."
        ),
        **nested(best.params),
        "decoding": dict(attributes["decoding"]),
    }


def trial_rows(study: optuna.Study, names: Mapping[str, Any]) -> list[list[str]]:
    """A row of text for each trial that came to an end, the best first: number, end, scores, values."""
    ended = [trial for trial in study.get_trials() if trial.state in _ENDED]
    ended.sort(key=lambda trial: -(trial.value or 0.0))
    rows = []
    for trial in ended:
        scores = [
            f"{trial.user_attrs[key]:.2f}" if key in trial.user_attrs else "" for key in ("rouge1", "rouge2")
        ]
        end = "complete" if trial.state == TrialState.COMPLETE else "stopped early"
        rows.append([_folder_of(trial), end, *scores, *(_short(trial.params[name]) for name in names)])
    return rows


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)


def _finished(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=_ENDED))


def _folder_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(_FOLDER, f"{trial.number:04d}"))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PrecisError(f"{folder} is in use by another search: wait for it or stop it") from error
        yield
