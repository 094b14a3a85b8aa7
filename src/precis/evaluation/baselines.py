"""Extractive summaries that any model has to beat, and the best that extraction could do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from precis.evaluation.rouge import RougeConvention, RougeScorer
from precis.evaluation.sentences import sentences

ORACLE_SENTENCES = 40  # the oracle looks no further into a document; later sentences hardly ever help
CHUNK = 64  # documents that a process summarizes at a time


class Baseline(Protocol):
    """From a document and its references (which only the oracle looks at) to a summary."""

    def __call__(self, document: str, references: Sequence[str]) -> str:
        """Summarize one document: sentences of it, a line each."""


@dataclass(frozen=True)
class Lead:
    """The first sentences."""

    num_sentences: int

    def __call__(self, document: str, references: Sequence[str]) -> str:
        """Summarize one document."""
        return "\n".join(sentences(document)[: self.num_sentences])


@dataclass(frozen=True)
class Longest:
    """The longest sentences, in the order of the document; of equally long ones the first."""

    num_sentences: int

    def __call__(self, document: str, references: Sequence[str]) -> str:
        """Summarize one document."""
        found = sentences(document)
        ranked = sorted(range(len(found)), key=lambda number: (-len(found[number].split()), number))
        return _joined(found, ranked[: self.num_sentences])


@dataclass(frozen=True)
class RandomSentences:
    """Sentences drawn at random, in the order of the document; a document always gets the same ones."""

    num_sentences: int
    seed: int

    def __call__(self, document: str, references: Sequence[str]) -> str:
        """Summarize one document."""
        found = sentences(document)
        digest = hashlib.sha256(f"{self.seed}\n{document}".encode()).digest()
        drawn = Random(digest).sample(range(len(found)), min(self.num_sentences, len(found)))  # noqa: S311
        return _joined(found, drawn)


@dataclass(frozen=True)
class Oracle:
    """Sentences that add most to ROUGE-1 plus ROUGE-2 against the references, one after the other.

    The greedy selection of Nallapati et al. (2017): close to the best that copying whole sentences can reach.
    """

    num_sentences: int
    convention: RougeConvention

    def __call__(self, document: str, references: Sequence[str]) -> str:
        """Summarize one document."""
        scorer = RougeScorer(self.convention, ("rouge1", "rouge2"))
        found = sentences(document)[:ORACLE_SENTENCES]
        chosen: list[int] = []
        best = 0.0
        while len(chosen) < self.num_sentences:
            scores = {
                number: sum(scorer.score(references, _joined(found, [*chosen, number])))
                for number in range(len(found))
                if number not in chosen
            }
            if not scores:
                break
            number = max(scores, key=lambda candidate: (scores[candidate], -candidate))
            if scores[number] <= best:
                break
            best = scores[number]
            chosen.append(number)
        return _joined(found, chosen)


def extract(
    baseline: Baseline, pairs: Sequence[tuple[str, Sequence[str]]], map_chunks: Callable[..., Iterable[Any]]
) -> list[str]:
    """Summaries of (document, references) pairs, in order; `map_chunks` is `map`, or the one of a pool."""
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    return [text for texts in map_chunks(_extract_chunk, [baseline] * len(chunks), chunks) for text in texts]


def _extract_chunk(baseline: Baseline, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    return [baseline(document, references) for document, references in pairs]


def _joined(found: Sequence[str], numbers: Iterable[int]) -> str:
    return "\n".join(found[number] for number in sorted(numbers))
