"""ROUGE by rouge-score, under conventions that are stated with every number."""

from __future__ import annotations

import importlib.metadata
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import regex
from numpy.typing import NDArray

from precis.evaluation.sentences import sentences
from precis.processes import num_cores, worker_processes

ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
CHUNK = 64  # documents that a process scores at a time

# scripts that put no space between words: each character, with its marks, counts as a word
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_UNICODE_WORD = regex.compile(
    rf"[[\p{{L}}\p{{N}}]&&[{_UNSPACED}]]\p{{M}}*|[[\p{{L}}\p{{N}}]--[{_UNSPACED}]][[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]*",
    regex.V1,
)


@dataclass(frozen=True)
class RougeConvention:
    """The choices that make two ROUGE values comparable, or not.

    Attributes:
        stemmer: Porter stemming of English words longer than three letters.
        summary_level: how texts are cut into sentences for rougeLsum: at newlines, as rouge-score does it by
            default, or into sentences first.
        references: with several references, take the best F1 (each ROUGE type on its own) or the mean.
        tokenizer: what a word is: see UnicodeTokenizer, or rouge-score's own rule, which keeps a-z and 0-9 alone.
    """

    stemmer: bool
    summary_level: Literal["newline", "sentences"]
    references: Literal["best", "mean"]
    tokenizer: Literal["unicode", "rouge-score"]

    @property
    def signature(self) -> str:
        """One line that says what was computed, to stand beside the numbers."""
        version = importlib.metadata.version("rouge-score")
        references = {"best": "max", "mean": "mean"}[self.references]
        return (
            f"rouge-score:{version}|F1|stem:{'yes' if self.stemmer else 'no'}|Lsum:{self.summary_level}"
            f"|refs:{references}|tok:{self.tokenizer}"
        )


class UnicodeTokenizer:
    """rouge-score's tokens wherever it has any, and words of every script besides.

    rouge-score keeps [a-z0-9] only: a Hindi text has no words for it, and scores 0 against itself. Texts whose
    letters and digits are all ASCII have the same tokens by both rules.
    """

    def __init__(self, stemmer: bool) -> None:
        self._stem = _stemmed if stemmer else str

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text; rouge-score calls this."""
        if text.isascii():
            return [self._stem(word) for word in _ascii_words(text)]
        words = _UNICODE_WORD.findall(unicodedata.normalize("NFC", text).lower())
        return [self._stem(word) for word in words]


class AsciiTokenizer:
    """rouge-score's own tokens; stemming remembers what it did."""

    def __init__(self, stemmer: bool) -> None:
        self._stem = _stemmed if stemmer else str

    def tokenize(self, text: str) -> list[str]:
        """The tokens of a text; rouge-score calls this."""
        return [self._stem(word) for word in _ascii_words(text)]


def _ascii_words(text: str) -> list[str]:
    from rouge_score.tokenize import tokenize

    return list(tokenize(text, None))


@lru_cache(maxsize=1 << 17)
def _stemmed(word: str) -> str:
    return str(_porter().stem(word)) if len(word) > 3 and word.isascii() else word


@lru_cache(maxsize=1)
def _porter() -> Any:
    from nltk.stem import porter

    return porter.PorterStemmer()


class RougeScorer:
    """Scores one summary against its references by some or all of ROUGE_TYPES."""

    def __init__(self, convention: RougeConvention, rouge_types: Sequence[str] = ROUGE_TYPES) -> None:
        from rouge_score.rouge_scorer import RougeScorer as Scorer

        self._convention = convention
        self._types = tuple(rouge_types)
        tokenizer = UnicodeTokenizer if convention.tokenizer == "unicode" else AsciiTokenizer
        self._scorer = Scorer(list(rouge_types), tokenizer=tokenizer(convention.stemmer))

    def score(self, references: Sequence[str], summary: str) -> tuple[float, ...]:
        """F1 of each ROUGE type, from 0 to 1."""
        summary = self._cut(summary)
        scores = np.array(
            [
                [result[name].fmeasure for name in self._types]
                for result in (self._scorer.score(self._cut(reference), summary) for reference in references)
            ]
        )
        combined = scores.max(0) if self._convention.references == "best" else scores.mean(0)
        return tuple(combined.tolist())

    def _cut(self, text: str) -> str:
        if self._convention.summary_level == "newline":
            return text
        return "\n".join(sentences(text))


@dataclass(frozen=True)
class Scores:
    """ROUGE F1 of many documents: (N, len(ROUGE_TYPES)), from 0 to 1."""

    values: NDArray[np.float64]

    def of(self, rouge_type: str) -> NDArray[np.float64]:
        """One ROUGE type for all documents."""
        return self.values[:, ROUGE_TYPES.index(rouge_type)]


class ParallelRouge:
    """Scores documents in several processes; the results do not depend on how many."""

    def __init__(self, convention: RougeConvention, pool: ProcessPoolExecutor | None) -> None:
        self._convention = convention
        self._pool = pool

    @property
    def map(self) -> Callable[..., Iterator[Any]]:
        """`map` over the processes; for other work of this evaluation."""
        return map if self._pool is None else self._pool.map

    def score(self, pairs: Iterable[tuple[Sequence[str], str]]) -> Scores:
        """Score (references, summary) pairs, in order."""
        pairs = list(pairs)
        chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
        conventions = [self._convention] * len(chunks)
        scored = self.map(_score_chunk, conventions, chunks)
        rows = [row for chunk in scored for row in chunk]
        return Scores(np.array(rows, dtype=np.float64).reshape(len(rows), len(ROUGE_TYPES)))


@contextmanager
def parallel_rouge(convention: RougeConvention, processes: int) -> Iterator[ParallelRouge]:
    """Give a scorer that uses so many processes; with one, this process does the work; 0: one for each core."""
    processes = processes or num_cores()
    if processes <= 1:
        yield ParallelRouge(convention, None)
        return
    # spawned, not forked: a fork of a process with torch's threads can hang
    with worker_processes(processes) as pool:
        yield ParallelRouge(convention, pool)


@lru_cache(maxsize=4)
def _scorer(convention: RougeConvention) -> RougeScorer:
    return RougeScorer(convention)


def _score_chunk(
    convention: RougeConvention, pairs: list[tuple[Sequence[str], str]]
) -> list[tuple[float, ...]]:
    scorer = _scorer(convention)
    return [scorer.score(references, summary) for references, summary in pairs]
