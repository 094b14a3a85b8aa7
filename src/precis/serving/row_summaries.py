"""Summaries of rows and their scores: what evaluation does with a row, wherever that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from precis.evaluation.rouge import ROUGE_TYPES, RougeConvention, RougeScorer
from precis.evaluation.rows import references
from precis.serving.summarizer import Summarizer
from precis.serving.summary import Summary


@dataclass(frozen=True)
class SummarizeAndScore:
    """A function of a batch of rows alone; a process that calls it often loads the model once.

    Attributes:
        directory: of the model; every machine sees it under this name.
        written: when its weights were, in nanoseconds, so that no process uses those of before.
        batch_size: documents decoded together.
        threads: of torch.
        decoding: the decoding parameters.
        convention: of ROUGE.
    """

    directory: Path
    written: int
    batch_size: int
    threads: int
    decoding: Mapping[str, Any]
    convention: RougeConvention

    @property
    def summarizer(self) -> Summarizer:
        """The model, loaded once in a process."""
        return _loaded(self.directory, self.written)

    def __call__(self, batch: pa.RecordBatch) -> tuple[list[Summary], NDArray[np.float64]]:
        """Give the summaries of rows with document, summary and perhaps references, and F1 from 0 to 1.

        Returns:
            As many summaries as there are rows, and their scores, (N, len(ROUGE_TYPES)).
        """
        torch.set_num_threads(self.threads)
        rows = batch.to_pylist()
        texts = [row["document"] for row in rows]
        summaries = self.summarizer.summarize(texts, batch_size=self.batch_size, **self.decoding)
        scorer = _scorer(self.convention)
        scores = [
            scorer.score(references(row), summary.text) for row, summary in zip(rows, summaries, strict=True)
        ]
        return summaries, np.array(scores, dtype=np.float64).reshape(len(rows), len(ROUGE_TYPES))


@lru_cache(maxsize=1)
def _loaded(directory: Path, written: int) -> Summarizer:
    return Summarizer.load(directory)


@lru_cache(maxsize=1)
def _scorer(convention: RougeConvention) -> RougeScorer:
    return RougeScorer(convention)
