"""Runs that `benchmarks/quality.py` left, for what is tried on their models afterwards, on validation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from precis.corpora.overrides import load_yaml, plain
from precis.errors import PrecisError
from precis.evaluation.rouge import ROUGE_TYPES, RougeConvention
from precis.evaluation.rows import count_rows, read_rows
from precis.evaluation.significance import paired_difference
from precis.params import EvaluationParams, Params, check_params

NOTE = "trained.json"  # of quality.py, once a model is trained and its decoding chosen
SHOWN = [ROUGE_TYPES.index(name) for name in ("rouge1", "rouge2", "rougeL")]  # columns of scores


def convention_of(settings: EvaluationParams) -> RougeConvention:
    """How `params.yaml: evaluation` has it."""
    return RougeConvention(
        stemmer=settings.stemmer,
        summary_level=settings.summary_level,
        references=settings.references,
        tokenizer=settings.tokenizer,
    )


def gains(before: np.ndarray, after: np.ndarray) -> str:
    """Cells of a table, one for each column of SHOWN: the mean, and the gain with its interval by paired bootstrap."""
    cells = []
    for old, new in zip(before.T, after.T, strict=True):
        gain = paired_difference(old, new, resamples=1000, confidence=0.95, seed=1)
        cells.append(f"{new.mean():.2f}, {gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
    return " | ".join(cells)


@dataclass(frozen=True)
class Run:
    """A folder such as .work/quality/aeslc-8676b304/pointer-1."""

    folder: Path

    def __post_init__(self) -> None:
        if not (self.folder / NOTE).is_file():
            raise PrecisError(
                f"{self.folder}: no {NOTE} there; expected a run of benchmarks/quality.py that has ended, such as "
                ".work/quality/aeslc-8676b304/pointer-1"
            )

    @property
    def model(self) -> Path:
        """The folder of its pointer model."""
        return self.folder / "models" / "pointer"

    @cached_property
    def params(self) -> Params:
        """What it was trained with."""
        path = self.folder / "params.yaml"
        return check_params(plain(load_yaml(path)), str(path))

    def decoding(self) -> dict[str, Any]:
        """As it was chosen on validation."""
        chosen = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))["decoding"]
        return self.params.decoding.model_dump(mode="json") | chosen

    def convention(self) -> RougeConvention:
        """How its summaries are scored."""
        return convention_of(self.params.evaluation)

    def validation(self) -> list[dict[str, Any]]:
        """All rows of the validation split."""
        path = self.folder / "data" / "prepared" / "validation.parquet"
        return list(next(read_rows(path, count_rows(path))))
