"""The hypotheses of one search under other penalties, without searching again."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from precis.decoding.hypothesis import Hypothesis
from precis.decoding.penalties import Penalties


def score(hypothesis: Hypothesis, num_source_words: int, penalties: Penalties) -> float:
    """What a search with these penalties would rank the hypothesis by.

    Args:
        hypothesis: of a search that kept attention.
        num_source_words: words of its document: attention to the padding behind them is none.
        penalties: length and coverage.
    """
    total = hypothesis.log_prob / penalties.length_divisor(len(hypothesis.log_probs))
    if penalties.uses_coverage and hypothesis.attention is not None:
        coverage = torch.from_numpy(hypothesis.attention[:, :num_source_words].sum(axis=0, dtype="float64"))
        total += float(penalties.coverage_score(coverage, torch.ones(num_source_words, dtype=torch.bool)))
    return total


def best(hypotheses: Sequence[Hypothesis], num_source_words: int, penalties: Penalties) -> int:
    """The place of the hypothesis that a search with these penalties would put first.

    That is so when `hypotheses` are all that ended: those of a search without early stop that kept
    2 * beam_size. Of equal ones the first.
    """
    scores = [score(hypothesis, num_source_words, penalties) for hypothesis in hypotheses]
    return max(range(len(scores)), key=lambda place: (scores[place], -place))
