"""A system's summaries of a whole corpus: scores with intervals, and what is in the summaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precis.evaluation.rouge import ROUGE_TYPES, ParallelRouge, Scores
from precis.evaluation.sentences import sentences
from precis.evaluation.significance import bootstrap
from precis.evaluation.statistics import (
    Duplicates,
    Totals,
    document_statistics,
    length_bucket,
)

POINTS = 100  # ROUGE is told in points, from 0 to 100


@dataclass(frozen=True)
class Summarized:
    """A document with its references and the summary to be judged.

    Attributes:
        document: the raw text.
        references: the acceptable summaries, the main one first.
        summary: the text to be judged.
        words: its words; None has them taken from the text.
    """

    document: str
    references: Sequence[str]
    summary: str
    words: Sequence[str] | None = None


@dataclass(frozen=True)
class BucketScores:
    """Mean ROUGE of the documents of a range of lengths, in words: from `first`, below `beyond`."""

    first: int
    beyond: int | None
    num_documents: int
    means: tuple[float, ...]


class CorpusEvaluation:
    """Adds up one system's summaries, window by window; keeps a few numbers per document, no text.

    Args:
        rouge: the scorer.
        words: splits a text into the words that the vocabulary has.
        known: tells whether the target vocabulary has a word.
    """

    def __init__(
        self, rouge: ParallelRouge, words: Callable[[str], list[str]], known: Callable[[str], bool]
    ) -> None:
        self._rouge = rouge
        self._words = words
        self._known = known
        self._totals = Totals()
        self._duplicates = Duplicates()
        self._scores: list[NDArray[np.float64]] = []
        self._lengths: list[int] = []

    def add(self, window: Sequence[Summarized]) -> list[dict[str, float]]:
        """Score a window; gives each document's ROUGE, in points."""
        scores = self._rouge.score((one.references, one.summary) for one in window).values * POINTS
        self._scores.append(scores)
        for one in window:
            source = self._words(one.document)
            statistics = document_statistics(
                self._words(one.summary) if one.words is None else one.words,
                self._words(one.references[0]),
                source,
                known=self._known,
                summary_sentences=sentences(one.summary),
                source_sentences=sentences(one.document),
            )
            self._totals.add(statistics)
            self._duplicates.add(one.summary)
            self._lengths.append(len(source))
        return [dict(zip(ROUGE_TYPES, row, strict=True)) for row in scores.tolist()]

    @property
    def scores(self) -> Scores:
        """ROUGE of all documents so far, in points."""
        return Scores(np.concatenate([np.zeros((0, len(ROUGE_TYPES))), *self._scores]))

    def metrics(self, *, resamples: int, confidence: float, seed: int) -> dict[str, float]:
        """ROUGE with intervals, in points, and the statistics."""
        intervals = bootstrap(self.scores.values, resamples=resamples, confidence=confidence, seed=seed)
        rouge: dict[str, float] = {}
        for name, interval in zip(ROUGE_TYPES, intervals, strict=True):
            rouge |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return {**rouge, **self._totals.metrics(), **self._duplicates.metrics()}

    def by_length(self, bounds: Sequence[int]) -> list[BucketScores]:
        """Mean scores by the length of the document; ranges without documents are left out."""
        buckets = np.array([length_bucket(length, bounds) for length in self._lengths], dtype=np.int64)
        edges = [0, *bounds, None]
        return [
            BucketScores(
                first=edges[number] or 0,
                beyond=edges[number + 1],
                num_documents=int((buckets == number).sum()),
                means=tuple(self.scores.values[buckets == number].mean(0).tolist()),
            )
            for number in range(len(bounds) + 1)
            if (buckets == number).any()
        ]
