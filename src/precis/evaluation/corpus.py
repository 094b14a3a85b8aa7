"""A system's summaries of a whole corpus: scores with intervals, and what is in the summaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from precis.evaluation.rouge import ROUGE_TYPES, ParallelRouge, Scores
from precis.evaluation.sentences import sentences
from precis.evaluation.significance import bootstrap
from precis.evaluation.statistics import (
    Duplicates,
    OriginTotals,
    Totals,
    WordOrigin,
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
        origins: of each of the words; None where nobody knows.
    """

    document: str
    references: Sequence[str]
    summary: str
    words: Sequence[str] | None = None
    origins: Sequence[WordOrigin] | None = None


@dataclass(frozen=True)
class Bucket:
    """What the summaries of documents of a range of lengths, in words, are like: from `first`, below `beyond`."""

    first: int
    beyond: int | None
    metrics: dict[str, float]


@dataclass
class _Group:
    """Sums over some of the documents."""

    statistics: Totals = field(default_factory=Totals)
    origins: OriginTotals = field(default_factory=OriginTotals)

    def metrics(self) -> dict[str, float]:
        origins = self.origins.metrics() if self.origins.num_summaries else {}
        return {**self.statistics.metrics(), **origins}


class CorpusEvaluation:
    """Adds up one system's summaries, window by window; keeps a few numbers per document, no text.

    Args:
        rouge: the scorer; None where windows come with their scores.
        words: splits a text into the words that the vocabulary has.
        known: tells whether the target vocabulary has a word.
        length_bounds: rising numbers of words of a document, at which ranges of lengths end.
    """

    def __init__(
        self,
        rouge: ParallelRouge | None,
        words: Callable[[str], list[str]],
        known: Callable[[str], bool],
        *,
        length_bounds: Sequence[int],
    ) -> None:
        self._rouge = rouge
        self._words = words
        self._known = known
        self._bounds = list(length_bounds)
        self._buckets = [_Group() for _ in range(len(self._bounds) + 1)]
        self._all = _Group()
        self._duplicates = Duplicates()
        self._scores: list[NDArray[np.float64]] = []
        self._bucket_of: list[int] = []

    def add(
        self, window: Sequence[Summarized], known_scores: NDArray[np.float64] | None = None
    ) -> list[dict[str, float]]:
        """Score a window; gives each document's ROUGE, in points.

        Args:
            window: some documents.
            known_scores: their ROUGE, from 0 to 1, if somebody computed it: (N, len(ROUGE_TYPES)).
        """
        if known_scores is None:
            assert self._rouge is not None
            known_scores = self._rouge.score((one.references, one.summary) for one in window).values
        scores = known_scores * POINTS
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
            bucket = length_bucket(len(source), self._bounds)
            for group in (self._all, self._buckets[bucket]):
                group.statistics.add(statistics)
                if one.origins is not None:
                    group.origins.add(one.origins)
            self._duplicates.add(one.summary)
            self._bucket_of.append(bucket)
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
        return {**rouge, **self._all.metrics(), **self._duplicates.metrics()}

    def by_length(self) -> list[Bucket]:
        """ROUGE and statistics by the length of the document; ranges without documents are left out."""
        bucket_of = np.array(self._bucket_of, dtype=np.int64)
        values = self.scores.values
        edges = [0, *self._bounds, None]
        found = []
        for number, group in enumerate(self._buckets):
            if group.statistics.num_documents:
                means = values[bucket_of == number].mean(0).tolist()
                rouge = dict(zip(ROUGE_TYPES, means, strict=True))
                found.append(Bucket(edges[number] or 0, edges[number + 1], {**rouge, **group.metrics()}))
        return found
