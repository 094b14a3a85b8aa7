"""A search in MLflow: one run, below which the runs of its trainings are shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precis.training.tracking import FINGERPRINT_TAG, configure, experiment_id, git_tags, run_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

_SEARCH_TAG = "precis.search"
_TRIAL_TAG = "precis.search_trial"
_PARENT_TAG = "mlflow.parentRunId"


class SearchRecord:
    """The run of a search; one with the same digest is gone on with.

    A store that does not answer is told of once, and the search goes on: its results are in its own folder.

    Args:
        experiment: name of the MLflow experiment, that of the trainings.
        digest: of the search.
        params: what is searched, and how.
    """

    def __init__(self, experiment: str, digest: str, params: Mapping[str, str]) -> None:
        self._adopted: set[str] = set()
        self._warned = False
        self._run_id: str | None = None
        self._client: MlflowClient | None = None

        def open_run(_: str) -> None:
            from mlflow.entities import Param

            client = self._client = configure()
            place = experiment_id(client, experiment)
            found = client.search_runs([place], filter_string=f"tags.`{_SEARCH_TAG}` = '{digest}'")
            if found:
                self._run_id = found[0].info.run_id
                client.set_terminated(self._run_id, "RUNNING")
                return
            run = client.create_run(
                place, run_name=f"search {digest[:6]}", tags={_SEARCH_TAG: digest, **git_tags()}
            )
            self._run_id = run.info.run_id
            client.log_batch(
                self._run_id, params=[Param(name, value[:6000]) for name, value in params.items()]
            )

        self._do("its run", open_run, is_open=False)

    def adopt(self, fingerprint: str, trial: int) -> None:
        """Put a training's run, known by the beginning of its fingerprint, below this one."""
        if fingerprint in self._adopted:
            return

        def tag(parent: str) -> None:
            assert self._client is not None
            experiments = [one.experiment_id for one in self._client.search_experiments()]
            pattern = f"tags.`{FINGERPRINT_TAG}` LIKE '{fingerprint}%'"
            for run in self._client.search_runs(experiments, filter_string=pattern):
                self._client.set_tag(run.info.run_id, _PARENT_TAG, parent)
                self._client.set_tag(run.info.run_id, _TRIAL_TAG, str(trial))
                self._adopted.add(fingerprint)

        self._do(f"the place of trial {trial}", tag)

    def log_trial(self, model_directory: Path, trial: int, rouge1: float, rouge2: float) -> None:
        """Add what a trial reached to the run of its training."""

        def add(parent: str) -> None:
            assert self._client is not None
            run_id = run_of(model_directory)
            if run_id is not None:
                # a training that was quicker than the first look at it has no parent yet
                self._client.set_tag(run_id, _PARENT_TAG, parent)
                self._client.set_tag(run_id, _TRIAL_TAG, str(trial))
                self._client.log_metric(run_id, "search_rouge1", rouge1)
                self._client.log_metric(run_id, "search_rouge2", rouge2)

        self._do(f"the scores of trial {trial}", add)

    def log_best(self, value: float, trial: int) -> None:
        """The best ROUGE-1 plus ROUGE-2 so far, as a curve over trials."""

        def add(run_id: str) -> None:
            assert self._client is not None
            self._client.log_metric(run_id, "best_rouge1_plus_rouge2", value, step=trial)

        self._do("the best score", add)

    def end(self, status: str, folder: Path | None = None) -> None:
        """Close the run, with the files of a folder."""

        def close(run_id: str) -> None:
            assert self._client is not None
            if folder is not None:
                self._client.log_artifacts(run_id, str(folder))
            self._client.set_terminated(run_id, status)

        self._do("its end", close)

    def _do(self, what: str, action: Callable[[str], Any], *, is_open: bool = True) -> None:
        from mlflow.exceptions import MlflowException

        if is_open and self._run_id is None:
            return
        try:
            action(self._run_id or "")
        except MlflowException as error:
            if not self._warned:
                log.warning("MLflow did not take %s of the search (%s): it goes on without", what, error)
            self._warned = True
