"""From back-pointers to hypotheses: the trace that a search leaves, and the summaries read out of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precis.decoding.hypothesis import Hypothesis


@dataclass(frozen=True)
class TraceStep:
    """One step of a search, for all rows (documents still searched) and beams.

    Attributes:
        row_of_document: the row of each document of the batch in this step, (B,); any row for those that left.
        ids, parents: the words chosen and the beams they continue, (rows, K).
        log_probs, generated, copied: of the words chosen, in log space, (rows, K).
        end: log-probability, generated and copied mass of ending each beam here, (rows, K, 3).
        attention: of each beam before the choice, (rows, K, S) or None.
        p_gen: of each beam before the choice, (rows, K) or None.
    """

    row_of_document: Tensor
    ids: Tensor
    parents: Tensor
    log_probs: Tensor
    generated: Tensor
    copied: Tensor
    end: Tensor
    attention: Tensor | None
    p_gen: Tensor | None


@dataclass(frozen=True)
class Endings:
    """Where the kept hypotheses of each document ended, best first: all (B, N).

    Attributes:
        scores: -inf where there is no such hypothesis.
        log_probs: log-probability, the end included.
        steps: the step that ended it: its number of words.
        beams: the beam it was on.
    """

    scores: Tensor
    log_probs: Tensor
    steps: Tensor
    beams: Tensor


def read_hypotheses(trace: list[TraceStep], endings: Endings, eos: int) -> list[list[Hypothesis]]:
    """Walk all kept hypotheses of all documents back to their first words, together."""
    num_steps = int(endings.steps.max()) + 1
    ids, log_probs, generated, copied = ([] for _ in range(4))
    p_gen: list[Tensor] = []
    attention: list[Tensor] = []
    slots = torch.zeros_like(endings.beams)
    for number in reversed(range(num_steps)):
        step = trace[number]
        rows = step.row_of_document.unsqueeze(1)
        ends_here = endings.steps == number
        parents = torch.where(ends_here, endings.beams, step.parents[rows, slots])
        end = step.end[rows, endings.beams]
        ids.append(torch.where(ends_here, eos, step.ids[rows, slots]))
        log_probs.append(torch.where(ends_here, end[..., 0], step.log_probs[rows, slots]))
        generated.append(torch.where(ends_here, end[..., 1], step.generated[rows, slots]))
        copied.append(torch.where(ends_here, end[..., 2], step.copied[rows, slots]))
        if step.p_gen is not None:
            p_gen.append(step.p_gen[rows, parents])
        if step.attention is not None:
            attention.append(step.attention[rows, parents])
        slots = torch.where(endings.steps >= number, parents, slots)
    columns = _Arrays(
        ids=_by_step(ids).numpy(),
        log_probs=_by_step(log_probs).double().numpy(),
        generated=_by_step(generated).double().exp().numpy(),
        copied=_by_step(copied).double().exp().numpy(),
        p_gen=_by_step(p_gen).double().numpy() if p_gen else None,
        attention=_by_step(attention).float().numpy() if attention else None,
    )
    scores, totals, steps = endings.scores.tolist(), endings.log_probs.tolist(), endings.steps.tolist()
    return [
        [
            columns.hypothesis(document, rank, steps[document][rank], score, totals[document][rank])
            for rank, score in enumerate(of_document)
            if score > -np.inf
        ]
        for document, of_document in enumerate(scores)
    ]


@dataclass(frozen=True)
class _Arrays:
    """All hypotheses side by side: (B, N, steps) and, for attention, (B, N, steps, S)."""

    ids: NDArray[np.int64]
    log_probs: NDArray[np.float64]
    generated: NDArray[np.float64]
    copied: NDArray[np.float64]
    p_gen: NDArray[np.float64] | None
    attention: NDArray[np.float32] | None

    def hypothesis(
        self, document: int, rank: int, num_words: int, score: float, log_prob: float
    ) -> Hypothesis:
        steps = (document, rank, slice(num_words + 1))
        return Hypothesis(
            ids=self.ids[document, rank, :num_words],
            score=score,
            log_prob=log_prob,
            log_probs=self.log_probs[steps],
            generated=self.generated[steps],
            copied=self.copied[steps],
            p_gen=None if self.p_gen is None else self.p_gen[steps],
            attention=None if self.attention is None else self.attention[steps],
        )


def _by_step(backwards: list[Tensor]) -> Tensor:
    return torch.stack(backwards[::-1], dim=2)
