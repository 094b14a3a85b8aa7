"""R-Drop: a batch is read twice with different dropout, and both readings shall say the same (Liang et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from precis.models.source import Source, Target

_MAX_NUMBERS = 8_000_000
"""Most log-probabilities of one reading at a time (32 MB of float32); with more, blocks are worked out once again in
the backward pass, so that they are not all in memory together."""
_LOWEST = -1e4  # in the place of -inf, which less itself is not a number; its exponential is 0, too


def twice(source: Source, target: Target) -> tuple[Source, Target]:
    """A batch and itself behind it, (2B, ...): dropout draws for each of them."""
    return (
        Source(
            ids=source.ids.repeat(2, 1),
            extended_ids=source.extended_ids.repeat(2, 1),
            lengths=source.lengths.repeat(2),
            num_oovs=source.num_oovs,
        ),
        Target(inputs=target.inputs.repeat(2, 1), ids=target.ids.repeat(2, 1)),
    )


def disagreement(log_probs: Callable[[slice], Tensor], row_weights: Tensor, num_choices: int) -> Tensor:
    """How much two readings differ: (KL(P|Q) + KL(Q|P)) / 2, weighted over target words (Liang et al., 2021, eq. 2).

    P and Q are over what a model chooses from: the words of the vocabulary and, for a pointer, the places of the
    document. A word that can be written in several ways counts as several, so this is an upper bound of the
    divergence of the words' probabilities.

    Args:
        log_probs: of some rows, (rows, X), -inf for what cannot be chosen; rows of the first reading come first, in
            the same order those of the second.
        row_weights: of each row in the sum, (2N,), the same for both readings of a word.
        num_choices: X, at the most.

    Returns:
        a scalar, 0 where the readings are the same.
    """
    num_rows = len(row_weights) // 2
    weights = row_weights.view(2, num_rows).sum(dim=0)
    block_size = max(1, _MAX_NUMBERS // num_choices)

    def of_block(start: int) -> Tensor:
        rows = slice(start, min(start + block_size, num_rows))
        again = slice(rows.start + num_rows, rows.stop + num_rows)
        return (weights[rows] * _divergence(log_probs(rows), log_probs(again))).sum()

    if num_rows <= block_size:
        return of_block(0)
    starts = range(0, num_rows, block_size)
    return torch.stack([_worked_out_again(of_block, start) for start in starts]).sum()


def _worked_out_again(of_block: Callable[[int], Tensor], start: int) -> Tensor:
    # nothing in a block is random, so the state of the random generator need not be kept for it
    result: Tensor = checkpoint(of_block, start, use_reentrant=False, preserve_rng_state=False)
    return result


def _divergence(one: Tensor, other: Tensor) -> Tensor:
    one, other = one.clamp(min=_LOWEST), other.clamp(min=_LOWEST)
    return 0.5 * ((one.exp() - other.exp()) * (one - other)).sum(dim=1)
