"""Extractive summaries that any model has to beat, and the best that extraction could do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from random import Random

from precis.evaluation.rouge import RougeConvention, RougeScorer
from precis.evaluation.sentences import sentences

ORACLE_SENTENCES = 40  # the oracle looks no further into a document; later sentences hardly ever help

Baseline = Callable[[str, Sequence[str]], str]
"""From a document and its references (which only the oracle looks at) to a summary."""


def lead(num_sentences: int) -> Baseline:
    """The first sentences."""
    return lambda document, references: "\n".join(sentences(document)[:num_sentences])


def longest(num_sentences: int) -> Baseline:
    """The longest sentences, in the order of the document; of equally long ones the first."""

    def summarize(document: str, references: Sequence[str]) -> str:
        found = sentences(document)
        ranked = sorted(range(len(found)), key=lambda number: (-len(found[number].split()), number))
        return "\n".join(found[number] for number in sorted(ranked[:num_sentences]))

    return summarize


def random(num_sentences: int, seed: int) -> Baseline:
    """Sentences drawn at random, in the order of the document; a document always gets the same ones."""

    def summarize(document: str, references: Sequence[str]) -> str:
        found = sentences(document)
        digest = hashlib.sha256(f"{seed}\n{document}".encode()).digest()
        drawn = Random(digest).sample(range(len(found)), min(num_sentences, len(found)))
        return "\n".join(found[number] for number in sorted(drawn))

    return summarize


def oracle(num_sentences: int, convention: RougeConvention) -> Baseline:
    """Sentences that add most to ROUGE-1 plus ROUGE-2 against the references, one after the other.

    The greedy selection of Nallapati et al. (2017): close to the best that copying whole sentences can reach.
    """
    scorer = RougeScorer(convention)

    def summarize(document: str, references: Sequence[str]) -> str:
        found = sentences(document)[:ORACLE_SENTENCES]
        chosen: list[int] = []
        best = 0.0
        while len(chosen) < num_sentences:
            scores = {
                number: sum(
                    scorer.score(references, "\n".join(found[i] for i in sorted([*chosen, number])))[:2]
                )
                for number in range(len(found))
                if number not in chosen
            }
            number = max(scores, key=lambda candidate: (scores[candidate], -candidate), default=None)
            if number is None or scores[number] <= best:
                break
            best = scores[number]
            chosen.append(number)
        return "\n".join(found[number] for number in sorted(chosen))

    return summarize
