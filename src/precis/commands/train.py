"""`precis train`: bring trained models up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from precis.errors import PrecisError

PIPELINE = Path("flows/pipeline.py")
MODELS = ("encoder_decoder", "attention", "pointer")


def train(
    models: Annotated[
        list[str] | None, typer.Argument(help="encoder_decoder, attention, pointer; none: all three.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Train also if nothing has changed.")] = False,
) -> None:
    """Train models on the corpus of params.yaml, with all that has to come before; does nothing if nothing changed.

    It is `dvc repro train@MODEL`, with a lock against a second run, and without leaving a process behind when it is
    stopped. A training that was stopped goes on where it was. Scores and registry come with `dvc repro`.
    """
    unknown = sorted(set(models or []) - set(MODELS))
    if unknown:
        raise PrecisError(f"there is no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if not PIPELINE.is_file():
        raise PrecisError(f"{PIPELINE} not found in {Path.cwd()}: run this in the project's folder")
    targets = [f"train@{model}" for model in models or MODELS]
    options = ["--force", "--single-item"] if force else []
    code = _run([sys.executable, str(PIPELINE), *options, *targets])
    raise typer.Exit(code if code >= 0 else 128 - code)


def _run(command: list[str]) -> int:
    """Run a command that answers signals itself; this process waits for its end."""
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the terminal sent it to both
        except SystemExit:
            process.terminate()
            process.wait()
            raise
