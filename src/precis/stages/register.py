"""Put the best model into the registry as the challenger."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from precis.files import atomic_path
from precis.params import load_params
from precis.registry.candidates import Candidate, best_candidate, read_candidates
from precis.registry.packaging import digest_of, log_model_directory
from precis.registry.versions import (
    CHALLENGER,
    COMMIT_TAG,
    DIGEST_TAG,
    FINGERPRINT_TAG,
    MODEL_TAG,
    Version,
    find_digest,
    make_version,
    registry_lock,
)
from precis.stages.entry import run_stage

logger = logging.getLogger(__name__)


def register(
    models: Path, reports: Path, output: Path, *, name: str, metric: str
) -> Version:
    """Register the best of `models` by `metric`, unless it is registered already, and call it challenger.

    What is written to `output` has neither times nor run ids, so that equal models give equal files.
    The alias champion is not touched: that is the gate's to move.
    """
    from mlflow import MlflowClient

    from precis.training.tracking import configure, run_of

    best = best_candidate(read_candidates(models, reports, metric))
    configure()
    client = MlflowClient()
    digest = digest_of(best.directory)
    with registry_lock():
        version = find_digest(client, name, digest)
        if version is None:
            version = _make_version(
                client, best, name=name, metric=metric, run_id=run_of(best.directory)
            )
        else:
            logger.info(
                "%s is version %d of %s already", best.model, version.number, name
            )
        client.set_registered_model_alias(name, CHALLENGER, str(version.number))
    record = {
        "name": name,
        "version": version.number,
        "model": best.model,
        "metric": metric,
        "value": best.value,
        "fingerprint": best.fingerprint,
        "digest": digest,
    }
    with atomic_path(output) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return version


def _make_version(
    client: Any, best: Candidate, *, name: str, metric: str, run_id: str | None
) -> Version:
    if run_id is None:
        logger.warning(
            "the record has no run of %s: this version will not lead back to its training",
            best.model,
        )
    package = log_model_directory(best.directory, name=best.model, run_id=run_id)
    tags = {
        DIGEST_TAG: package.digest,
        MODEL_TAG: best.model,
        FINGERPRINT_TAG: best.fingerprint,
        f"precis.{metric}": str(best.value),
    }
    if run_id is not None:
        commit = client.get_run(run_id).data.tags.get("mlflow.source.git.commit")
        if commit:
            tags[COMMIT_TAG] = commit
    return make_version(client, name, source=package.uri, run_id=run_id, tags=tags)


def main() -> None:
    params = load_params()
    version = register(
        Path("models"),
        Path("reports"),
        Path("reports/registered.json"),
        name=params.registry.name,
        metric=params.registry.metric,
    )
    logger.info("%s@%s is version %d", version.name, CHALLENGER, version.number)


if __name__ == "__main__":
    run_stage(main)
