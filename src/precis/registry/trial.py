"""Trying a model on the test set, as it will be served: the evidence that the gate decides on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from precis.errors import PrecisError
from precis.evaluation.baselines import Lead
from precis.evaluation.corpus import POINTS
from precis.evaluation.rouge import RougeConvention, parallel_rouge
from precis.evaluation.rows import count_rows, read_rows, references
from precis.evaluation.statistics import document_statistics, share
from precis.manifest import file_digest
from precis.registry.behaviour import failed_behaviours
from precis.registry.gate import Evidence

if TYPE_CHECKING:
    from precis.serving.summarizer import Summarizer
    from precis.serving.summary import Summary

WINDOW = 1024  # documents in memory


class TestSet:
    """The test split, with its digest taken before and after it is read.

    Args:
        path: a Parquet file.
        convention: how ROUGE is computed.
        metric: rouge1, rouge2, rougeL or rougeLsum.
        processes: for scoring.
    """

    __test__ = False  # pytest takes the name for a test

    def __init__(self, path: Path, *, convention: RougeConvention, metric: str, processes: int) -> None:
        self.num_rows = count_rows(path)
        self.digest = file_digest(path)
        self._path = path
        self._convention = convention
        self._metric = metric
        self._processes = processes

    def lead_rouge(self, num_sentences: int) -> NDArray[np.float64]:
        """Points of the lead baseline, (N,)."""
        lead = Lead(num_sentences)
        with parallel_rouge(self._convention, self._processes) as rouge:
            parts = [
                rouge.score((references(row), lead(row["document"], references(row))) for row in window).of(
                    self._metric
                )
                for window in read_rows(self._path, WINDOW)
            ]
        return np.concatenate(parts) * POINTS

    def documents(self, number: int) -> list[str]:
        """The first documents."""
        return [row["document"] for row in next(read_rows(self._path, number))]

    def try_model(
        self,
        summarizer: Summarizer,
        name: str,
        *,
        size_bytes: int,
        p95_seconds: float,
        behaviour: Sequence[str] = (),
    ) -> Evidence:
        """Decode the whole test set with the model's own settings and score it."""
        rouge_parts: list[NDArray[np.float64]] = []
        shares: list[tuple[float, float, float]] = []
        with parallel_rouge(self._convention, self._processes) as rouge:
            for window in read_rows(self._path, WINDOW):
                summaries = summarizer.summarize([row["document"] for row in window])
                scores = rouge.score(
                    (references(row), summary.text) for row, summary in zip(window, summaries, strict=True)
                )
                rouge_parts.append(scores.of(self._metric))
                shares += [_shares(summary) for summary in summaries]
        if file_digest(self._path) != self.digest:
            raise PrecisError(f"{self._path} changed while {name} was tried on it: run the gate again")
        repetition, unsupported, empty = np.array(shares, dtype=np.float64).T
        return Evidence(
            name=name,
            test_digest=self.digest,
            convention=f"{self._metric}, {self._convention.signature}",
            decoding=dict(summarizer.decoding),
            rouge=np.concatenate(rouge_parts) * POINTS,
            repetition=repetition,
            unsupported=unsupported,
            empty=empty,
            p95_seconds=p95_seconds,
            size_bytes=size_bytes,
            failed_behaviours=tuple(behaviour),
        )


def p95_latencies(summarizers: Sequence[Summarizer], documents: Sequence[str]) -> list[float]:
    """Seconds within which 95 of 100 documents are answered, one at a time, for each summarizer.

    They take turns, so that what else the machine does hits all alike.
    """
    seconds: list[list[float]] = [[] for _ in summarizers]
    for summarizer in summarizers:
        summarizer.summarize(documents[:1])  # the first call sets things up
    for document in documents:
        for summarizer, times in zip(summarizers, seconds, strict=True):
            start = time.perf_counter()
            summarizer.summarize([document])
            times.append(time.perf_counter() - start)
    return [float(np.quantile(times, 0.95)) for times in seconds]


def behaviour_of(summarizer: Summarizer, documents: Sequence[str], **limits: Any) -> tuple[str, ...]:
    """Sentences on what fails; see `precis.registry.behaviour`."""
    return failed_behaviours(summarizer, documents, **limits)


def _shares(summary: Summary) -> tuple[float, float, float]:
    statistics = document_statistics(summary.words, [], [], known=lambda word: True)
    unsupported = sum(token.origin == "unsupported" for token in summary.tokens)
    return (
        share(statistics.repeated_ngrams[1], statistics.all_ngrams[1]),
        share(unsupported, len(summary.tokens)),
        float(not summary.text),
    )
