"""MLflow's pages for this machine alone: `python flows/ui.py --port 5000`; `make ui` calls it.

It listens on loopback, answers only by the names of this machine and to its own pages, loads no pickle, and runs no
jobs. With MLFLOW_AUTH_ADMIN_PASSWORD set, everybody must log in; `admin` with that password makes further users. Their
passwords, hashed, are in mlflow-users.db.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from pathlib import Path

import pipeline


def command(store: str, port: int, *, asks_for_password: bool) -> list[str]:
    """How MLflow is started."""
    names = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]
    # fmt: off
    options = [
        "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", ",".join(names),
        "--cors-allowed-origins", ",".join(f"http://{name}" for name in names), "--workers", "1",
    ]
    # fmt: on
    if asks_for_password:
        options += ["--app-name", "basic-auth"]
    return [sys.executable, "-m", "mlflow", "server", *options]


def environment(folder: Path) -> dict[str, str]:
    """What MLflow reads besides: no pickles, no jobs, versions only of what MLflow itself stores."""
    config = folder / ".work" / "mlflow-auth.ini"
    closed = {
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX": "^(models|mlflow-artifacts|runs):/.*$",
        "MLFLOW_SERVER_X_FRAME_OPTIONS": "DENY",
        "MLFLOW_AUTH_CONFIG_PATH": str(config),
        # of forms and sessions; another one at every start logs people out
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(
        "[mlflow]\n"
        "default_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder / 'mlflow-users.db'}\n"
        "admin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    return {**closed, **pipeline.environment()}


def main() -> None:
    """Become the server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "5000")))
    port = parser.parse_args().port
    folder = Path.cwd()
    store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
    started = command(store, port, asks_for_password=bool(os.environ.get("MLFLOW_AUTH_ADMIN_PASSWORD")))
    os.execve(started[0], started, environment(folder))  # noqa: S606  # our own command


if __name__ == "__main__":
    main()
