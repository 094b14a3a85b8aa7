"""Versions and aliases in the MLflow registry, as precis uses them.

Aliases: `challenger`, the newest candidate; `champion`, what is served; `previous`, what `rollback` goes to.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from precis.errors import PrecisError
from precis.training.database import database_lock, has_locks

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"
LOCK = Path(".work/registry.lock")

DIGEST_TAG = "precis.digest"
CODE_TAG = "precis.code_sha256"
MODEL_TAG = "precis.model"
FINGERPRINT_TAG = "precis.fingerprint"
COMMIT_TAG = "precis.git_commit"
FLOW_RUN_TAG = "precis.flow_run"


@dataclass(frozen=True)
class Version:
    """A version of the registered model."""

    name: str
    number: int
    source: str
    run_id: str | None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """What MLflow loads it by."""
        return f"models:/{self.name}/{self.number}"

    @property
    def digest(self) -> str | None:
        """Digest of its files; None for a version that precis did not make."""
        return self.tags.get(DIGEST_TAG)


@contextmanager
def registry_lock() -> Iterator[None]:
    """Hold the other processes off the aliases; waits.

    In a PostgreSQL registry the lock is the database's and holds for all machines. Else it is a file, beside a SQLite
    registry or in the working folder, and holds for the processes of this machine. It is freed when its holder dies.
    """
    import mlflow

    uri = str(mlflow.get_registry_uri())
    if has_locks(uri):
        with database_lock(uri, "registry"):
            yield
        return
    path = Path(uri.removeprefix("sqlite:///") + ".registry.lock") if uri.startswith("sqlite:///") else LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_alias(client: MlflowClient, name: str, alias: str) -> Version | None:
    """The version that an alias points at; None if nothing has that alias."""
    from mlflow.exceptions import MlflowException

    try:
        # not search_model_versions: that leaves aliases out
        return _version(client.get_model_version_by_alias(name, alias))
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def find_digest(client: MlflowClient, name: str, digest: str) -> Version | None:
    """The newest version that holds exactly these files; None if there is none."""
    found = [version for version in all_versions(client, name) if version.digest == digest]
    return max(found, key=lambda version: version.number, default=None)


def get_version(client: MlflowClient, name: str, number: int) -> Version:
    """One version by its number; a PrecisError if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return _version(client.get_model_version(name, str(number)))
    except MlflowException as error:
        known = ", ".join(str(version.number) for version in all_versions(client, name)) or "none"
        raise PrecisError(f"there is no version {number} of {name}; versions: {known}") from error


def all_versions(client: MlflowClient, name: str) -> list[Version]:
    """Every version, oldest first."""
    versions: list[Version] = []
    token: str | None = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", max_results=1000, page_token=token)
        versions.extend(_version(found) for found in page)
        token = page.token
        if not token:
            return sorted(versions, key=lambda version: version.number)


def make_version(
    client: MlflowClient,
    name: str,
    *,
    source: str,
    run_id: str | None,
    tags: dict[str, str],
    about: str = "",
) -> Version:
    """Add a version to the registered model, which is created if it is new.

    Args:
        client: of the registry.
        name: of the registered model.
        source: where MLflow has its files.
        run_id: the training run, if the record has it.
        tags: what it is found by.
        about: what a person reads about it (Markdown).
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            name,
            description="Summarizers made by precis. The alias `champion` is what is served, `challenger` the newest "
            "candidate, `previous` what a rollback goes to.",
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    model_id = source.removeprefix("models:/") if source.startswith("models:/") else None
    made = client.create_model_version(
        name, source, run_id=run_id, tags=tags, description=about, model_id=model_id
    )
    log.info("made version %s of %s", made.version, name)
    return _version(made)


def _version(found: object) -> Version:
    return Version(
        name=found.name,  # type: ignore[attr-defined]
        number=int(found.version),  # type: ignore[attr-defined]
        source=found.source,  # type: ignore[attr-defined]
        run_id=found.run_id or None,  # type: ignore[attr-defined]
        tags=dict(found.tags),  # type: ignore[attr-defined]
    )
