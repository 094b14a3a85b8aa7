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
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from precis.environment import close_environment
from precis.errors import PrecisError
from precis.files import atomic_directory, atomic_path, remove_leftovers
from precis.training.database import create_tables, is_database

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from precis.training.parcels import Parcel

log = logging.getLogger(__name__)

FINGERPRINT_TAG = "precis.fingerprint"
RUN_FILE = "run.json"
ABOUT_TRAINING = (
    "One run for each model that was trained. Runs whose names end in the same letters were trained on the same data "
    "with the same parameters: select them to compare. What became of the models is under Models, and in the "
    "experiment of promotions."
)


def default_tracking_uri(root: Path | None = None) -> str:
    """The SQLite database in the repository, as an absolute URI: MLflow would take a relative one from anywhere."""
    return f"sqlite:///{(root or Path.cwd()).resolve() / 'mlflow.db'}"


def configure(root: Path | None = None) -> MlflowClient:
    """Point MLflow at the store that the environment names, or at mlflow.db in the repository.

    Raises:
        PrecisError: the database cannot be made or opened.
    """
    close_environment()
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
    for chatty in ("alembic", "mlflow.models.signature"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it raises what it logs
    if uri.startswith("sqlite:///"):
        _create_database(Path(uri.removeprefix("sqlite:///")))
    elif is_database(uri):
        create_tables(uri)
    return mlflow.MlflowClient()


def _create_database(path: Path) -> None:
    """Make the tables beside the database's place and rename it, under a lock.

    MLflow makes them by a hundred migrations in place: a kill in between leaves a database that nothing opens any
    more, and several processes that are first at once fail.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    lock_path = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                remove_leftovers(path)
                with atomic_path(path) as temporary:
                    _ask(temporary)
            _ask(path)
    except OSError as error:
        raise PrecisError(f"{path}: MLflow's database cannot be made: {error.strerror}") from error
    except (MlflowException, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise PrecisError(
            f"{path}: MLflow's database cannot be opened: {reason}. Bring back a copy of it, or move it away to begin "
            "a new one"
        ) from error


def _ask(database: Path) -> None:
    import mlflow

    # the first question creates the tables
    mlflow.MlflowClient(f"sqlite:///{database}").search_experiments(max_results=1)


def experiment_id(client: MlflowClient, name: str, about: str = ABOUT_TRAINING) -> str:
    """The id of the experiment, made if it is not there.

    Artifacts lie beside a SQLite database; for another one MLFLOW_DEFAULT_ARTIFACT_ROOT says where, and MLflow's server
    knows itself.

    Args:
        client: of the store.
        name: of the experiment.
        about: what its page says of it; only for one that is made now.

    Raises:
        PrecisError: the experiment is deleted, or nothing says where its artifacts go.
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
    elif is_database(uri):
        location = _shared_artifacts(name)
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


def _shared_artifacts(experiment: str) -> str:
    """Where the files of an experiment go whose record is in a database that others ask, too."""
    root = os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT")
    if not root or not (":/" in root or Path(root).is_absolute()):
        raise PrecisError(
            f"MLFLOW_DEFAULT_ARTIFACT_ROOT is {root!r}: with a database server it must say where MLflow's files go, "
            "such as s3://bucket/mlflow, or a folder that all machines have under the same absolute name"
        )
    return f"{root.rstrip('/')}/{quote(experiment, safe='')}"


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

    A store that does not answer gets it later. One that does not have the run is told of in the log; the
    evaluation's files are whole without it.
    """

    def add(parcel: Parcel) -> None:
        parcel.add_points("scores.jsonl", {f"test_{name}": value for name, value in metrics.items()}, step=0)
        for file in artifacts.rglob("*"):
            if file.is_file() and not file.name.startswith("."):
                inside = Path("evaluation", file.relative_to(artifacts)).as_posix()
                parcel.add_file(inside, partial(shutil.copyfile, file))
        signature = artifacts / "plots" / "signature.txt"
        if signature.is_file():
            parcel.add_tag("precis.rouge", signature.read_text(encoding="utf-8").strip())

    _add_to_runs([model_directory], add)


def log_pages(model_directories: list[Path], pages: list[Path]) -> None:
    """Add pages about the data and the results to the runs that trained the models, as `log_evaluation` does."""

    def add(parcel: Parcel) -> None:
        for page in pages:
            parcel.add_file(f"report/{page.name}", partial(shutil.copyfile, page))

    _add_to_runs(model_directories, add)


def _add_to_runs(model_directories: list[Path], add: Callable[[Parcel], None]) -> None:
    from precis.training.parcels import WAITING, Parcel, deliver_within  # which need this module

    for directory in model_directories:
        root = directory.resolve().parents[1]
        fingerprint = read_fingerprint(directory)
        with atomic_directory(root / WAITING / f"{fingerprint[:16]}-{time.time_ns()}") as folder:
            parcel = Parcel(folder)
            parcel.write_head(fingerprint, run=None)
            add(parcel)
            parcel.end("FINISHED")
    if model_directories:
        deliver_within(root)


@dataclass(frozen=True)
class DatasetRecord:
    """A file that a run read: its role, its path in the repository, its content digest and its rows."""

    context: str
    path: str
    digest: str
    num_rows: int


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
