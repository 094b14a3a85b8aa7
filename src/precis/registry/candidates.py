"""The trained models of this working copy and their scores."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precis.errors import PrecisError


@dataclass(frozen=True)
class Candidate:
    """A trained and evaluated model that may be registered."""

    model: str
    directory: Path
    fingerprint: str
    value: float


def read_candidates(
    models: str | os.PathLike[str], reports: str | os.PathLike[str], metric: str
) -> list[Candidate]:
    """Every model below `models` that has been evaluated, sorted by name.

    Raises:
        PrecisError: there is none, or one of them lacks its scores, the metric or its fingerprint.
    """
    candidates = []
    for directory in sorted(path.parent for path in Path(models).glob("*/model.json")):
        metrics_file = Path(reports) / directory.name / "metrics.json"
        metrics = _read_json(metrics_file, f"run `dvc repro evaluate@{directory.name}`")
        if metric not in metrics:
            raise PrecisError(
                f"{metrics_file} has no {metric!r}, which params.yaml: registry.metric asks for; "
                f"it has {', '.join(sorted(metrics))}"
            )
        run = _read_json(directory / "run.json", f"run `dvc repro train@{directory.name}`")
        if "fingerprint" not in run:
            raise PrecisError(
                f"{directory / 'run.json'} has no fingerprint: run `dvc repro -f train@{directory.name}`"
            )
        candidates.append(
            Candidate(
                directory.name,
                directory,
                str(run["fingerprint"]),
                float(metrics[metric]),
            )
        )
    if not candidates:
        raise PrecisError(f"no trained model in {models}/: run `dvc repro` first")
    return candidates


def best_candidate(candidates: list[Candidate]) -> Candidate:
    """The one with the highest value; of equal ones the first by name."""
    return min(candidates, key=lambda candidate: (-candidate.value, candidate.model))


def _read_json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(f"{path} not found: {remedy}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PrecisError(f"{path} is no JSON ({error}): {remedy}") from error
    if not isinstance(values, dict):
        raise PrecisError(f"{path} holds no JSON object: {remedy}")
    return values
