"""What a training run notes of where it came from, beside its parameters and the git commit."""

from __future__ import annotations

import getpass
import hashlib
import os
from pathlib import Path

# name in MLflow: variable that whoever started the run sets
_STARTED_BY = {"precis.flow_run": "PRECIS_FLOW_RUN_ID", "precis.dvc_experiment": "DVC_EXP_NAME"}
# name in MLflow: file of the repository
_FILES = {"precis.dvc_lock_sha256": "dvc.lock", "precis.environment_sha256": "constraints.txt"}


def lineage_tags(root: Path | None = None) -> dict[str, str]:
    """Tags that lead from a run to its Prefect flow run, DVC experiment, dvc.lock and pinned packages.

    What does not apply is left out.
    """
    root = root or Path.cwd()
    tags = {tag: os.environ[variable] for tag, variable in _STARTED_BY.items() if os.environ.get(variable)}
    for tag, name in _FILES.items():
        if (root / name).is_file():
            tags[tag] = hashlib.sha256((root / name).read_bytes()).hexdigest()
    return tags


def who() -> str:
    """Who or what works here: a Prefect flow run, or a person."""
    flow_run = os.environ.get("PRECIS_FLOW_RUN_ID")
    if flow_run:
        return f"flow run {flow_run}"
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def display_tags(model: str, group: str) -> dict[str, str]:
    """What MLflow's page of a training run shows to a person: who, by which command, and what there is to see.

    Args:
        model: pointer, for instance.
        group: what the names of comparable runs end in.
    """
    url = os.environ.get("PRECIS_FLOW_RUN_URL")
    started = f"Started by [{who()}]({url})." if url else f"Started by {who()}."
    return {
        "mlflow.user": who(),
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": f"dvc repro train@{model}",
        "mlflow.note.content": (
            f"The `{model}` model. Runs whose names end in `{group}` were trained on the same data with the same "
            "parameters and can be compared. Metrics `test_…` are scores on the test split. Among the artifacts: "
            "`report/index.html` has summaries side by side, `report/data.html` is about the corpus, `samples/` shows "
            f"how the summaries grew better.\n\n{started}"
        ),
    }
