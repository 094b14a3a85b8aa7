"""Coverage: attention that remembers what it has attended to (See et al., 2017, section 2.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precis.models.additive import additive_attention_with_coverage
from precis.models.attention import Attention, masked_log_softmax


def attend_with_coverage(
    attention: Attention,
    queries: Tensor,
    keys: Tensor,
    mask: Tensor,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of T steps, each knowing the sum of those before it; only this loops over the steps.

    c^t is the sum of a^0 to a^(t-1) (eq. 10); it is an input of the scores (eq. 11).

    Args:
        attention: built with coverage.
        queries: projected, (B, T, A).
        keys: projected, (B, S, A).
        mask: True at words, (B, S).
        sizes: queries and keys of each document, the keys first in its row; None: T, and what the mask has.

    Returns:
        log a^t (B, T, S), and the coverage loss of each step, the sum of min(a_i, c_i) (eq. 12), (B, T).
        What lies past a document's queries is arbitrary.
    """
    if attention.score_mode in ("dot", "general"):
        scores = attention.scores(queries, keys)
        slopes = attention.coverage_slopes(queries)
        covered: tuple[Tensor, Tensor] = _CoveredSoftmax.apply(scores, slopes, mask)  # type: ignore[no-untyped-call]
        return covered
    if queries.device.type == "cpu" and sizes is not None:
        queries, keys, v, w_c = attention.additive_parts(queries, keys)
        assert w_c is not None
        return additive_attention_with_coverage(queries, keys, v, w_c, sizes)
    coverage = queries.new_zeros(queries.shape[0], 1, keys.shape[1])
    log_weights, losses = [], []
    for t in range(queries.shape[1]):
        log_attention = masked_log_softmax(
            attention.scores(queries[:, t : t + 1], keys, coverage), mask[:, None]
        )
        weights = log_attention.exp()
        losses.append(torch.minimum(weights, coverage).sum(dim=2))
        coverage = coverage + weights
        log_weights.append(log_attention)
    return torch.cat(log_weights, dim=1), torch.cat(losses, dim=1)


class _CoveredSoftmax(torch.autograd.Function):
    """Scores e_i^t + slope^t c_i^t, with the backward pass written out: the loop is over small tensors."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, slopes: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores = scores if scores.dtype == torch.float64 else scores.float()
        slopes = slopes.to(scores.dtype)
        lowest = torch.finfo(scores.dtype).min
        coverage = torch.zeros_like(scores[:, 0])  # (B, S)
        attention = torch.empty_like(scores)
        log_attention = torch.empty_like(scores)
        losses = scores.new_empty(scores.shape[:2])
        outside = ~mask
        for t in range(scores.shape[1]):
            covered = torch.addcmul(scores[:, t], slopes[:, t, None], coverage)
            log_weights = torch.log_softmax(covered.masked_fill_(outside, lowest), dim=1)
            log_attention[:, t] = log_weights.masked_fill_(outside, -math.inf)
            weights = torch.exp(log_weights, out=attention[:, t])
            losses[:, t] = torch.minimum(weights, coverage).sum(dim=1)
            coverage = coverage + weights
        ctx.save_for_backward(slopes, attention)
        return log_attention, losses

    @staticmethod
    def backward(ctx: Any, grad_log: Tensor, grad_losses: Tensor) -> tuple[Tensor, Tensor, None]:
        slopes, attention = ctx.saved_tensors
        before = attention.cumsum(dim=1) - attention  # c^t
        grad_scores = torch.empty_like(attention)
        grad_slopes = torch.empty_like(slopes)
        grad_coverage = torch.zeros_like(attention[:, 0])  # by c^(t+1), from all later steps
        # min(a, c) passes its gradient to the smaller one, half to each if they are equal
        smaller = (attention < before).to(attention.dtype)
        to_attention = (smaller + (attention <= before)) / 2
        loss_grads = grad_losses[:, :, None]
        to_coverage = (1 - to_attention) * loss_grads
        to_attention = to_attention * loss_grads
        log_sums = grad_log.sum(dim=2, keepdim=True)
        for t in range(attention.shape[1] - 1, -1, -1):
            weights = attention[:, t]
            grad_weights = grad_coverage + to_attention[:, t]
            centred = grad_weights - (weights * grad_weights).sum(dim=1, keepdim=True) - log_sums[:, t]
            grad = torch.addcmul(grad_log[:, t], weights, centred)
            grad_scores[:, t] = grad
            grad_slopes[:, t] = (grad * before[:, t]).sum(dim=1)
            grad_coverage = torch.addcmul(grad_coverage + to_coverage[:, t], slopes[:, t, None], grad)
        return grad_scores, grad_slopes, None
