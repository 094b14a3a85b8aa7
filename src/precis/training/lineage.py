"""What a training run notes of where it came from, beside its parameters and the git commit."""

from __future__ import annotations

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
