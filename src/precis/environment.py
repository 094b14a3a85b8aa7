"""What the libraries below find in their environment: nobody is told what runs here, and nothing is unpickled."""

from __future__ import annotations

import os

DEFAULTS = {
    # usage figures: MLflow, Prefect and the hub's client heed the first, DVC its own
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # files that would run code when they are loaded
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
    # each worker of a training would be told that looking for weights without a gradient costs time
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def close_environment() -> None:
    """Set what is not set otherwise; before the libraries are imported, which read it then."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
