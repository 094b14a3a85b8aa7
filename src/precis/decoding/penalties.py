"""Scores that rank finished hypotheses: log-probability, made comparable between lengths and coverages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LengthPenalty = Literal["none", "average", "wu"]
CoveragePenalty = Literal["none", "summary", "wu"]

COVERAGE_FLOOR = 1e-10  # attention that underflowed to 0 must not make a score -inf; float32 holds it


@dataclass(frozen=True)
class Penalties:
    """How hypotheses are ranked.

    Attributes:
        length: what log P is divided by: nothing, the number of steps, or Wu et al. (2016), eq. 14.
        length_alpha: exponent of Wu's length penalty, at least 0.
        coverage: `wu` punishes source words that got no attention (Wu et al., 2016, eq. 14), `summary`
            those that got more than 1 in all (Gehrmann et al., 2018).
        coverage_beta: weight of the coverage penalty, at least 0.
    """

    length: LengthPenalty = "none"
    length_alpha: float = 1.0
    coverage: CoveragePenalty = "none"
    coverage_beta: float = 0.0

    def length_divisor(self, num_steps: int) -> float:
        """What log P of a hypothesis of `num_steps` steps, the end included, is divided by.

        It never falls as hypotheses grow: the early stop of the search relies on it.
        """
        match self.length:
            case "none":
                return 1.0
            case "average":
                return float(num_steps)
            case "wu":
                return float(((5 + num_steps) / 6) ** self.length_alpha)

    @property
    def uses_coverage(self) -> bool:
        """Whether the search has to add attention up."""
        return self.coverage != "none" and self.coverage_beta > 0

    def coverage_score(self, coverage: Tensor, mask: Tensor) -> Tensor:
        """What coverage adds to the score; never positive.

        Args:
            coverage: the sum of the attention of all steps, (…, S).
            mask: True at source words, broadcastable to coverage.
        """
        low = coverage.clamp(COVERAGE_FLOOR, 1.0)
        cost = -low.log() if self.coverage == "wu" else coverage.clamp(min=1.0) - 1.0
        return -self.coverage_beta * (cost * mask).sum(-1)

    def coverage_bound(self, coverage: Tensor, mask: Tensor) -> Tensor:
        """The highest coverage score that a hypothesis can still reach when it goes on."""
        if self.coverage == "wu":  # attention still to come can cover everything
            return torch.zeros(coverage.shape[:-1], dtype=coverage.dtype, device=coverage.device)
        return self.coverage_score(coverage, mask)  # what has too much keeps it
