"""Where each word of a summary came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from precis.decoding.hypothesis import Hypothesis

MOST_POSITIONS = 3  # source positions named for a word
LEAST_WEIGHT = 0.05  # of the attention, for a position to be named


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one word came from.

    Attributes:
        probability: of the word, given the words before; `generated` + `copied`.
        generated: the part of it that came from the vocabulary.
        copied: the part of it that came from the source.
        p_gen: probability of generating in this step; None for a model that cannot copy.
        position: for a word that is more copied than generated, the source position that holds it and got the
            most attention; else None.
        attended: the source positions that got the most attention, with their weights, heaviest first.
    """

    probability: float
    generated: float
    copied: float
    p_gen: float | None
    position: int | None
    attended: tuple[tuple[int, float], ...]


def origins(hypothesis: Hypothesis, source_ids: Sequence[int]) -> list[Origin]:
    """The origin of each word of a hypothesis.

    Args:
        hypothesis: of a document.
        source_ids: extended-vocabulary ids of the document's words.
    """
    num_words = len(hypothesis.ids)
    probabilities = np.exp(hypothesis.log_probs[:num_words]).tolist()
    generated = hypothesis.generated[:num_words].tolist()
    copied = hypothesis.copied[:num_words].tolist()
    p_gen = [None] * num_words if hypothesis.p_gen is None else hypothesis.p_gen.tolist()
    if hypothesis.attention is None or not num_words:
        attended: list[tuple[tuple[int, float], ...]] = [()] * num_words
        places = [0] * num_words
    else:
        attention = hypothesis.attention[:num_words, : len(source_ids)]
        heaviest = np.argsort(-attention, axis=1, kind="stable")[:, :MOST_POSITIONS]
        weights = np.take_along_axis(attention, heaviest, axis=1)
        attended = [
            tuple((place, weight) for place, weight in zip(*row, strict=True) if weight >= LEAST_WEIGHT)
            for row in zip(heaviest.tolist(), weights.tolist(), strict=True)
        ]
        holds_word = np.asarray(source_ids)[None, :] == hypothesis.ids[:, None]
        places = np.where(holds_word, attention, -1.0).argmax(axis=1).tolist()
    return [
        Origin(
            probability=probabilities[word],
            generated=generated[word],
            copied=copied[word],
            p_gen=p_gen[word],
            position=places[word] if copied[word] > generated[word] else None,
            attended=attended[word],
        )
        for word in range(num_words)
    ]
