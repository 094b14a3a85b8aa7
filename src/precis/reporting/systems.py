"""What the evaluations left in reports/: one system for each model and baseline."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precis.errors import PrecisError

BASELINES = "baselines"
METRICS_FILE = "metrics.json"
SUMMARIES_FILE = "summaries.jsonl"
SIGNATURE_FILE = "signature.txt"


@dataclass(frozen=True)
class System:
    """A model or baseline that was evaluated.

    Attributes:
        name: of the model or baseline.
        directory: with metrics.json and summaries.jsonl.
        metrics: as metrics.json has them.
        is_baseline: whether it is no model.
    """

    name: str
    directory: Path
    metrics: dict[str, float]
    is_baseline: bool

    @property
    def title(self) -> str:
        """The name as tables show it."""
        return self.name.replace("_", "-") if self.is_baseline else self.name

    def rows(self) -> Iterator[dict[str, Any]]:
        """What it wrote, document by document."""
        path = self.directory / SUMMARIES_FILE
        try:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    yield _parsed(path, number, line)
        except FileNotFoundError as error:
            raise PrecisError(f"{path} not found: run `dvc repro evaluate` first") from error

    def table(self, name: str) -> list[dict[str, str]]:
        """A CSV of the evaluation, such as by_length.csv; empty if there is none."""
        for path in (self.directory / "plots" / name, self.directory / name):
            if path.is_file():
                with path.open(encoding="utf-8", newline="") as file:
                    return list(csv.DictReader(file))
        return []

    def heat_maps(self) -> list[dict[str, Any]]:
        """The attention over the first documents; empty for a model without attention."""
        path = self.directory / "plots" / "attention.json"
        return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []

    def signature(self) -> str | None:
        """The ROUGE convention of its scores."""
        for path in (self.directory / "plots" / SIGNATURE_FILE, self.directory / SIGNATURE_FILE):
            if path.is_file():
                return path.read_text(encoding="utf-8").strip()
        return None


@dataclass(frozen=True)
class ScoredRows:
    """ROUGE of every document of a system, in the order of its file: ids and (N, metrics)."""

    ids: list[str]
    names: tuple[str, ...]
    values: NDArray[np.float64]

    def of(self, name: str) -> NDArray[np.float64]:
        """One metric for all documents."""
        return self.values[:, self.names.index(name)]


def read_systems(reports: Path) -> list[System]:
    """Baselines, then models, each from the lowest ROUGE-1 to the highest.

    Raises:
        PrecisError: there is no model's evaluation, or a file of one cannot be read.
    """
    baselines = [
        read_system(path.parent, is_baseline=True) for path in reports.glob(f"{BASELINES}/*/{METRICS_FILE}")
    ]
    models = [read_system(path.parent) for path in reports.glob(f"*/{METRICS_FILE}")]
    if not models:
        raise PrecisError(f"{reports}/ has no model's {METRICS_FILE}: run `dvc repro evaluate` first")
    return [*sorted(baselines, key=_rank), *sorted(models, key=_rank)]


def read_system(directory: Path, *, is_baseline: bool = False) -> System:
    """One evaluation; raises PrecisError if it has no metrics."""
    path = directory / METRICS_FILE
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(f"{path} not found: run `dvc repro evaluate` first") from error
    except ValueError as error:
        raise PrecisError(f"{path} cannot be read as JSON: {error}; run `dvc repro evaluate`") from error
    return System(directory.name, directory, metrics, is_baseline)


def scored_rows(system: System) -> ScoredRows:
    """The scores of all documents; the texts are not kept."""
    ids: list[str] = []
    names: tuple[str, ...] = ()
    values: list[list[float]] = []
    for row in system.rows():
        names = names or tuple(row["rouge"])
        ids.append(row["id"])
        values.append([row["rouge"][name] for name in names])
    return ScoredRows(ids, names, np.array(values, dtype=np.float64).reshape(len(ids), len(names)))


def signature_of(systems: Sequence[System]) -> str | None:
    """The ROUGE convention that the scores share; None where no system tells.

    Raises:
        PrecisError: they were scored by different conventions, so that nothing can be compared.
    """
    told = {signature: system for system in systems if (signature := system.signature()) is not None}
    if len(told) > 1:
        listed = "\n".join(f"  {system.directory}: {signature}" for signature, system in told.items())
        raise PrecisError(
            f"scores of different conventions cannot be compared:\n{listed}\n"
            "evaluate them under the same `evaluation` parameters (`dvc repro evaluate baselines`)"
        )
    return next(iter(told), None)


def select_rows(system: System, ids: set[str]) -> dict[str, dict[str, Any]]:
    """Some documents' rows by id."""
    return {row["id"]: row for row in system.rows() if row["id"] in ids}


def _rank(system: System) -> tuple[float, str]:
    return system.metrics["rouge1"], system.name


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise PrecisError(f"{path}, line {number}, is no JSON: {error}; run `dvc repro evaluate`") from error
    assert isinstance(row, dict)
    return row
