"""Coverage: attention that remembers what it has attended to (See et al., 2017, section 2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.models.attention import Attention, masked_log_softmax


def attend_with_coverage(
    attention: Attention, queries: Tensor, keys: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention of T steps, each knowing the sum of those before it; only this loops over the steps.

    c^t is the sum of a^0 to a^(t-1) (eq. 10); it is an input of the scores (eq. 11).

    Args:
        attention: built with coverage.
        queries: projected, (B, T, A).
        keys: projected, (B, S, A).
        mask: True at words, (B, S).

    Returns:
        log a^t (B, T, S), and the coverage loss of each step, the sum of min(a_i, c_i) (eq. 12), (B, T).
    """
    coverage = queries.new_zeros(queries.shape[0], 1, keys.shape[1], dtype=torch.float32)
    log_weights, losses = [], []
    for t in range(queries.shape[1]):
        scores = attention.scores(queries[:, t : t + 1], keys, coverage)
        log_attention = masked_log_softmax(scores, mask[:, None])
        weights = log_attention.exp()
        losses.append(torch.minimum(weights, coverage).sum(dim=2))
        coverage = coverage + weights
        log_weights.append(log_attention)
    return torch.cat(log_weights, dim=1), torch.cat(losses, dim=1)
