"""What a search gives: arrays, so that who reads it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Hypothesis:
    """A finished summary of one document. T words and the end; arrays over steps have T + 1 entries.

    Attributes:
        ids: extended-vocabulary ids of the words, (T,).
        score: what hypotheses are ranked by.
        log_prob: log-probability of the words and the end.
        log_probs: the same by step, (T + 1,); they sum to `log_prob`.
        generated: probability mass that came from the vocabulary, by step, (T + 1,).
        copied: probability mass that came from the source, by step; with `generated` it sums to exp(log_probs).
        p_gen: probability of generating, by step; None for a model that cannot copy.
        attention: a^t by step, (T + 1, S); None for a model without attention.
    """

    ids: NDArray[np.int64]
    score: float
    log_prob: float
    log_probs: NDArray[np.float64]
    generated: NDArray[np.float64]
    copied: NDArray[np.float64]
    p_gen: NDArray[np.float64] | None
    attention: NDArray[np.float32] | None
