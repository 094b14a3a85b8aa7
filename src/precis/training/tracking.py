"""The record of training runs in MLflow. No other part of `training` knows of MLflow.

A run is found by its fingerprint: the digest of all that its model came from. So what DVC keeps of a run
is the same bytes for the same training, and a cached stage still leads to the run that did the work.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precis.errors import PrecisError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

log = logging.getLogger(__name__)

FINGERPRINT_TAG = "precis.fingerprint"
RUN_FILE = "run.json"
ABOUT_TRAINING = (
    "One run for each model that was trained. Runs whose names end in the same letters were trained on the same data "
    "with the same parameters: select them to compare. What became of the models is under Models, and in the "
    "experiment of promotions."
)
# MLflow takes at most 1,000 metrics in a call
_METRICS_PER_CALL = 1_000


def default_tracking_uri(root: Path | None = None) -> str:
    """The SQLite database in the repository, as an absolute URI: MLflow would take a relative one from anywhere."""
    return f"sqlite:///{(root or Path.cwd()).resolve() / 'mlflow.db'}"


def configure(root: Path | None = None) -> MlflowClient:
    """Point MLflow at the store that the environment names, or at mlflow.db in the repository.

    Raises:
        PrecisError: the database cannot be made or opened.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # a server that does not answer costs seconds, not minutes: what could not be sent is sent later
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import mlflow

    root = (root or Path.cwd()).resolve()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(root)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(os.environ.get("MLFLOW_REGISTRY_URI") or uri)
    for chatty in ("alembic", "mlflow.store.db.utils", "mlflow.models.signature"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if uri.startswith("sqlite:///"):
        _create_database(Path(uri.removeprefix("sqlite:///")))
    return mlflow.MlflowClient()


def _create_database(path: Path) -> None:
    """Make the tables under a lock: MLflow's own first use fails when several processes are first at once."""
    import mlflow

    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # the first question creates or migrates the tables
            mlflow.MlflowClient().search_experiments(max_results=1)
    except OSError as error:
        raise PrecisError(f"{path}: MLflow's database cannot be made: {error.strerror}") from error


def experiment_id(client: MlflowClient, name: str, about: str = ABOUT_TRAINING) -> str:
    """The id of the experiment, made if it is not there; artifacts lie beside a SQLite database.

    Args:
        client: of the store.
        name: of the experiment.
        about: what its page says of it; only for one that is made now.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        if experiment.lifecycle_stage == "deleted":
            raise PrecisError(
                f"the MLflow experiment {name!r} is deleted: restore it (`mlflow experiments restore -x "
                f"{experiment.experiment_id}`) or set another params.yaml: tracking.experiment"
            )
        return str(experiment.experiment_id)
    uri = mlflow.get_tracking_uri()
    location = None
    if uri.startswith("sqlite:///"):
        location = (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
    try:
        # without the kind MLflow 3 shows the pages of applications of language models
        tags = {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": about}
        return str(client.create_experiment(name, artifact_location=location, tags=tags))
    except MlflowException:
        # another process was first
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


def find_run(client: MlflowClient, fingerprint: str) -> Run | None:
    """The newest run that trained this fingerprint, a finished one before all others."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(
        experiments,
        filter_string=f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}'",
        order_by=["attributes.start_time DESC"],
    )
    finished = [run for run in runs if run.info.status == "FINISHED"]
    return next(iter(finished or runs), None)


def run_of(model_directory: Path) -> str | None:
    """The id of the MLflow run that trained this model; None when the store does not have it."""
    run = find_run(configure(), read_fingerprint(model_directory))
    return run.info.run_id if run is not None else None


def read_fingerprint(model_directory: Path) -> str:
    """The fingerprint in a model directory's run.json.

    Raises:
        PrecisError: there is none.
    """
    path = Path(model_directory) / RUN_FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError) as error:
        raise PrecisError(
            f"{path} names no training run ({error}): run `dvc repro` to train the model"
        ) from error


def log_evaluation(model_directory: Path, metrics: Mapping[str, float], artifacts: Path) -> None:
    """Add what an evaluation found to the run that trained the model; the metrics get the prefix `test_`.

    A store that does not have the run, or does not answer, is told of in the log; the evaluation's files
    are whole without it.
    """
    from mlflow.entities import Metric

    def add(client: MlflowClient, run_id: str) -> None:
        now = int(time.time() * 1000)
        points = [Metric(f"test_{name}", float(value), now, 0) for name, value in metrics.items()]
        client.log_batch(run_id, metrics=points)
        for file in artifacts.rglob("*"):
            if file.is_file() and not file.name.startswith("."):
                folder = Path("evaluation", file.relative_to(artifacts).parent)
                client.log_artifact(run_id, str(file), folder.as_posix())
        signature = artifacts / "plots" / "signature.txt"
        if signature.is_file():
            client.set_tag(run_id, "precis.rouge", signature.read_text(encoding="utf-8").strip())

    _add_to_run(model_directory, "its scores", add)


def log_pages(model_directory: Path, pages: list[Path]) -> None:
    """Add pages about the data and the results to the run that trained the model, as `log_evaluation` does."""

    def add(client: MlflowClient, run_id: str) -> None:
        for page in pages:
            client.log_artifact(run_id, str(page), "report")

    _add_to_run(model_directory, "the pages about it", add)


def _add_to_run(model_directory: Path, what: str, add: Callable[[MlflowClient, str], None]) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client = configure()
        run = find_run(client, read_fingerprint(model_directory))
        if run is None:
            log.warning(
                "MLflow has no run of %s (it was trained with another store): %s are only in reports/",
                model_directory,
                what,
            )
            return
        add(client, run.info.run_id)
    except MlflowException as error:
        log.warning("MLflow did not take %s of %s (%s): they are in reports/", what, model_directory, error)


@dataclass(frozen=True)
class DatasetRecord:
    """A file that a run read: its role, its path in the repository, its content digest and its rows."""

    context: str
    path: str
    digest: str
    num_rows: int


@dataclass
class RunRecord:
    """One training run's record: kept in a local file first, delivered to MLflow when it answers.

    Args:
        directory: where the undelivered part is kept; not tracked by DVC.
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
    _run_id: str | None = field(default=None, init=False)
    _delivered: set[tuple[str, int]] = field(default_factory=set, init=False)
    _num_read: int = field(default=0, init=False)
    _client: Any = field(default=None, init=False)
    _warned: bool = field(default=False, init=False)

    @property
    def spool(self) -> Path:
        """The local file: a line [name, value, milliseconds, step] for each point."""
        return self.directory / "metrics.jsonl"

    @property
    def is_delivered(self) -> bool:
        """MLflow has every point."""
        return not self._warned and self._run_id is not None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep metrics in the local file; `deliver` sends them."""
        now = int(time.time() * 1000)
        with self.spool.open("a", encoding="utf-8") as spool:
            for name, value in metrics.items():
                spool.write(json.dumps([name, float(value), now, step]) + "\n")

    def deliver(self) -> bool:
        """Send what MLflow does not have yet; False, with one warning, when it does not answer."""
        from mlflow.exceptions import MlflowException

        try:
            client, run_id = self._run()
            self._send_metrics(client, run_id)
        except MlflowException as error:
            if not self._warned:
                log.warning(
                    "MLflow does not answer; training goes on and metrics wait in %s (%s)", self.spool, error
                )
            self._warned = True
            return False
        if self._warned:
            log.info("MLflow answers again: all metrics are delivered")
        self._warned = False
        return True

    def log_directory(self, directory: Path, artifact_path: str) -> None:
        """Send a folder of files; a store that does not answer is told of."""
        from mlflow.exceptions import MlflowException

        try:
            client, run_id = self._run()
            client.log_artifacts(run_id, str(directory), artifact_path)
        except (MlflowException, OSError) as error:
            log.warning("MLflow did not take %s: %s", directory, error)

    def log_summary(self, metrics: Mapping[str, float]) -> None:
        """Metrics of the training as a whole; not part of its curves."""
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        now = int(time.time() * 1000)
        try:
            client, run_id = self._run()
            client.log_batch(
                run_id, metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()]
            )
        except MlflowException as error:
            log.warning("MLflow did not take the summary of the training: %s", error)

    def log_file(self, path: Path) -> None:
        """Send a file; a store that does not answer is told of."""
        self.log_text(path.read_text(encoding="utf-8"), path.name)

    def log_text(self, text: str, artifact_file: str) -> None:
        """Send a text as a file; a store that does not answer is told of."""
        from mlflow.exceptions import MlflowException

        try:
            client, run_id = self._run()
            client.log_text(run_id, text, artifact_file)
        except (MlflowException, OSError) as error:
            log.warning("MLflow did not take %s: %s", artifact_file, error)

    def end(self, status: str) -> None:
        """Close the run: FINISHED, FAILED or KILLED."""
        from mlflow.exceptions import MlflowException

        if status == "FINISHED":
            self.deliver()
        if self._run_id is None:
            return
        try:
            self._client.set_terminated(self._run_id, status)
        except MlflowException as error:
            log.warning("MLflow did not take the end of the run: %s", error)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None while the store did not answer yet."""
        return self._run_id

    def _run(self) -> tuple[MlflowClient, str]:
        if self._client is None:
            self._client = configure()
        client = self._client
        if self._run_id is not None:
            return client, self._run_id
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        run = find_run(client, self.fingerprint)
        if run is not None and run.info.status != "FINISHED":
            client.set_terminated(run.info.run_id, "RUNNING")
            self._run_id = run.info.run_id
            for name in run.data.metrics:
                history = client.get_metric_history(self._run_id, name)
                self._delivered.update((name, metric.step) for metric in history)
            return client, self._run_id
        run = client.create_run(
            experiment_id(client, self.experiment),
            run_name=self.name,
            tags={FINGERPRINT_TAG: self.fingerprint, **self.tags},
        )
        params = [Param(name, value) for name, value in self.params.items()]
        for start in range(0, len(params), 100):
            client.log_batch(run.info.run_id, params=params[start : start + 100])
        client.log_inputs(
            run.info.run_id,
            datasets=[
                DatasetInput(
                    Dataset(
                        name=Path(dataset.path).name,
                        digest=dataset.digest,
                        source_type="local",
                        source=json.dumps({"path": dataset.path}),
                        profile=json.dumps({"num_rows": dataset.num_rows}),
                    ),
                    tags=[InputTag("mlflow.data.context", dataset.context)],
                )
                for dataset in self.datasets
            ],
        )
        self._run_id = run.info.run_id
        return client, self._run_id

    def _send_metrics(self, client: MlflowClient, run_id: str) -> None:
        from mlflow.entities import Metric

        if not self.spool.exists():
            return
        lines = self.spool.read_text(encoding="utf-8").splitlines()
        points = [json.loads(line) for line in lines[self._num_read :]]
        fresh: dict[tuple[str, int], Metric] = {}
        for name, value, timestamp, step in points:
            if (name, step) not in self._delivered:
                fresh[name, step] = Metric(name, value, timestamp, step)
        metrics = list(fresh.values())
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            part = metrics[start : start + _METRICS_PER_CALL]
            client.log_batch(run_id, metrics=part)
            self._delivered.update((metric.key, metric.step) for metric in part)
        self._num_read = len(lines)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as `section.key`: text, as MLflow keeps them."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = str(value)
    return flat


def content_digest(path: Path) -> str:
    """MD5 of a file, as dvc.lock has it, so that a run's data can be found there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def git_tags(root: Path | None = None) -> dict[str, str]:
    """The commit, whether the tree was dirty, and the digest of what was not committed; empty outside git."""
    root = root or Path.cwd()

    def git(*arguments: str) -> bytes:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    try:
        commit = git("rev-parse", "HEAD").decode().strip()
        # dvc.lock changes while the pipeline runs: it is the result, not the cause
        changed = git("status", "--porcelain", "--", ".", ":!dvc.lock").strip()
        difference = git("diff", "HEAD", "--", ".", ":!dvc.lock")
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {
        "mlflow.source.git.commit": commit,
        "precis.git_dirty": "yes" if changed else "no",
        **({"precis.git_diff_sha256": hashlib.sha256(difference).hexdigest()} if changed else {}),
    }
