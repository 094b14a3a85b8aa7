"""Put the best model into the registry as the challenger."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from precis.files import atomic_path, remove_leftovers
from precis.params import load_params
from precis.registry.candidates import Candidate, best_candidate, read_candidates
from precis.registry.lineage import LINEAGE_TAG, describe, read_lineage, seal
from precis.registry.model_card import CARD_TAG, attach, model_card
from precis.registry.packaging import code_digest, log_package, staged
from precis.registry.versions import (
    CHALLENGER,
    CODE_TAG,
    COMMIT_TAG,
    DIGEST_TAG,
    FINGERPRINT_TAG,
    FLOW_RUN_TAG,
    MODEL_TAG,
    Version,
    find_digest,
    make_version,
    registry_lock,
)
from precis.stages.entry import run_stage
from precis.training.parcels import deliver_within
from precis.training.tracking import configure, experiment_id, find_run

log = logging.getLogger(__name__)


def register(
    models: Path,
    reports: Path,
    output: Path,
    *,
    name: str,
    metric: str,
    experiment: str,
    decoding: dict[str, Any],
) -> Version:
    """Register the best of `models` by `metric`, unless it is registered already, and call it challenger.

    What is written to `output` has neither times nor run ids, so that equal models give equal files.
    The alias champion is not touched: that is the gate's to move.
    """
    remove_leftovers(output)
    best = best_candidate(read_candidates(models, reports, metric))
    client = configure()
    with staged(best.directory, decoding=decoding) as (package, digest), registry_lock():
        version = find_digest(client, name, digest)
        if version is None:
            version = _make_version(
                client, best, package, name=name, metric=metric, digest=digest, experiment=experiment
            )
        else:
            log.info("%s is version %d of %s already", best.model, version.number, name)
        if CARD_TAG not in version.tags:
            version = _add_card(client, version, best, reports, decoding)
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
    client: Any, best: Candidate, package: Path, *, name: str, metric: str, digest: str, experiment: str
) -> Version:
    run = find_run(client, best.fingerprint)
    if run is None:
        log.warning(
            "MLflow has no run of %s: this version will not lead back to its training", best.directory
        )
        run_id, where, run_tags = None, experiment_id(client, experiment), {}
    else:
        run_id, where, run_tags = run.info.run_id, run.info.experiment_id, run.data.tags
    uri = log_package(package, name=best.model, digest=digest, run_id=run_id, experiment_id=where)
    chain = describe(Path.cwd(), best.model, fingerprint=best.fingerprint, run_tags=run_tags)
    tags = {
        DIGEST_TAG: digest,
        CODE_TAG: code_digest(),
        MODEL_TAG: best.model,
        FINGERPRINT_TAG: best.fingerprint,
        LINEAGE_TAG: seal(client, uri, chain),
        f"precis.{metric}": str(best.value),
    }
    for tag, key in ((COMMIT_TAG, "git_commit"), (FLOW_RUN_TAG, "flow_run")):
        if chain[key]:
            tags[tag] = chain[key]
    return make_version(client, name, source=uri, run_id=run_id, tags=tags)


def _add_card(
    client: Any, version: Version, best: Candidate, reports: Path, decoding: dict[str, Any]
) -> Version:
    chain, _ = read_lineage(version)
    baselines = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((reports / "baselines").glob("*/metrics.json"))
    }
    card = model_card(
        best.directory,
        name=version.name,
        number=version.number,
        chain=chain,
        run=find_run(client, best.fingerprint),
        metrics=json.loads((reports / best.model / "metrics.json").read_text(encoding="utf-8")),
        baselines=baselines,
        decoding=decoding,
    )
    return attach(client, version, card)


def main() -> None:
    """Register with the values of params.yaml."""
    params = load_params()
    deliver_within(Path.cwd())  # the version is to lead back to the run of its training
    version = register(
        Path("models"),
        Path("reports"),
        Path("reports/registered.json"),
        name=params.registry.name,
        metric=params.registry.metric,
        experiment=params.tracking.experiment,
        decoding=params.decoding.model_dump(mode="json"),
    )
    log.info("%s@%s is version %d", version.name, CHALLENGER, version.number)


if __name__ == "__main__":
    run_stage(main)
