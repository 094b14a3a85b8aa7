"""Additive scores: a tanh for each query, key and feature, without a tensor of all of them.

On a CPU each document is worked through by itself: with its own numbers of queries and keys there is no padding,
and its keys stay in the cache. The backward passes are written out, since thousands of small operations
are what automatic differentiation is slowest at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from precis.models.rows import take_rows

_MOST_KEPT = 16_000_000
"""Most tanh values that are kept for the backward pass (64 MB of float32); above, it computes them again."""


def additive_scores(
    queries: Tensor,
    keys: Tensor,
    v: Tensor,
    coverage: Tensor | None = None,
    w_c: Tensor | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """e_i^t = v . tanh(k_i + q_t + w_c c_i^t) (See et al., 2017, eq. 1 and 11).

    Args:
        queries: w_s s_t + b_attn, (B, T, A).
        keys: w_h h_i, (B, S, A).
        v: (A,).
        coverage: c^t, (B, T, S); None: without the last term.
        w_c: (A,).
        sizes: queries and keys of each document; None: T and S.

    Returns:
        (B, T, S), arbitrary but finite outside of the sizes.
    """
    if coverage is None and queries.device.type == "cpu":
        if sizes is None:
            sizes = [(queries.shape[1], keys.shape[1])] * len(queries)
        queries, keys, v = (_wide(tensor) for tensor in (queries, keys, v))
        with torch.autocast("cpu", enabled=False):
            scores: Tensor = _AdditiveScores.apply(queries, keys, v, sizes)  # type: ignore[no-untyped-call]
        return scores
    columns = []
    for t in range(queries.shape[1]):
        features = keys + queries[:, t, None]  # (B, S, A)
        if coverage is not None and w_c is not None:
            features = features + coverage[:, t, :, None] * w_c
        columns.append(torch.tanh(features) @ v.to(features.dtype))
    return torch.stack(columns, dim=1)


class _AdditiveScores(torch.autograd.Function):
    """With u = tanh(k_i + q_t), the gradient by both inside of the tanh is g_ti v (1 - u^2)."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, v: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> Tensor:
        v = v.contiguous()
        scores = queries.new_zeros(*queries.shape[:2], keys.shape[1])
        num_values = sum(num_queries * num_keys for num_queries, num_keys in sizes) * len(v)
        keeps = any(ctx.needs_input_grad) and num_values <= _MOST_KEPT
        kept = []
        for b, (num_queries, num_keys) in enumerate(sizes):
            u = torch.tanh_(queries[b, :num_queries, None] + keys[b, :num_keys])  # (T, S, A)
            scores[b, :num_queries, :num_keys] = u @ v
            if keeps:
                kept.append(u)
        ctx.save_for_backward(queries, keys, v, *kept)
        ctx.sizes = sizes
        return scores

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        queries, keys, v, *kept = ctx.saved_tensors
        grad_queries, grad_keys = torch.zeros_like(queries), torch.zeros_like(keys)
        grad_v = torch.zeros_like(v)
        for b, (num_queries, num_keys) in enumerate(ctx.sizes):
            u = kept[b] if kept else torch.tanh_(queries[b, :num_queries, None] + keys[b, :num_keys])
            g = grad[b, :num_queries, :num_keys].contiguous()  # (T, S)
            grad_v += g.flatten() @ u.flatten(0, 1)
            inside = (1 - u * u).mul_(g[:, :, None])  # v is left to the end
            grad_queries[b, :num_queries] = inside.sum(dim=1) * v
            grad_keys[b, :num_keys] = inside.sum(dim=0) * v
        return grad_queries, grad_keys, grad_v, None


class PackedKeys:
    """The keys of a batch without its padding, for decoders that ask one query of each document at a time.

    Each step keeps one tanh for every word of the batch for the backward pass; with the padding, and by
    automatic differentiation, it would be several times that.

    Args:
        keys: w_h h_i, (B, S, A), on a CPU: elsewhere it would wait for the device.
        mask: True at words, (B, S).
    """

    def __init__(self, keys: Tensor, mask: Tensor) -> None:
        self._shape = mask.shape
        self._places = mask.flatten().nonzero().squeeze(1)  # (M,)
        self._documents = self._places // mask.shape[1]
        self._keys = take_rows(_wide(keys).flatten(0, 1), self._places)  # (M, A)

    def scores(self, queries: Tensor, v: Tensor, coverage: Tensor | None, w_c: Tensor | None) -> Tensor:
        """As `additive_scores`: (B, 1, S) for queries (B, 1, A) and coverage (B, 1, S); 0 at padding."""
        parts = _wide(queries).squeeze(1), self._keys, _wide(v)
        if coverage is not None and w_c is not None:
            parts += take_rows(_wide(coverage).flatten()[:, None], self._places), _wide(w_c)[None]  # type: ignore[assignment]
        with torch.autocast("cpu", enabled=False):
            scores = _PackedScores.apply(self._documents, *parts)  # type: ignore[no-untyped-call]
        padded = scores.new_zeros(self._shape.numel()).index_copy(0, self._places, scores)
        result: Tensor = padded.view(len(queries), 1, -1)
        return result


class _PackedScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        documents: Tensor,  # (M,)
        queries: Tensor,  # (B, A)
        keys: Tensor,  # (M, A)
        v: Tensor,  # (A,)
        coverage: Tensor | None = None,  # (M, 1)
        w_c: Tensor | None = None,  # (1, A)
    ) -> Tensor:
        u = queries.index_select(0, documents).add_(keys)
        if coverage is not None and w_c is not None:
            u.addmm_(coverage, w_c)
        u.tanh_()
        ctx.num_documents = len(queries)
        ctx.save_for_backward(documents, u, v, *([coverage, w_c] if coverage is not None else []))
        return u @ v

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        documents, u, v, *cover = ctx.saved_tensors
        grad_v = grad @ u
        inside = (u * u).sub_(1).mul_(-grad[:, None]).mul_(v)
        grad_queries = inside.new_zeros(ctx.num_documents, inside.shape[1]).index_add_(0, documents, inside)
        if not cover:
            return None, grad_queries, inside, grad_v
        coverage, w_c = cover
        return None, grad_queries, inside, grad_v, inside @ w_c.t(), coverage.t() @ inside


def additive_attention_with_coverage(
    queries: Tensor, keys: Tensor, v: Tensor, w_c: Tensor, sizes: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Attention of T steps that each know the sum of those before (See et al., 2017, eq. 10 to 12), on a CPU.

    Args:
        queries: (B, T, A).
        keys: (B, S, A).
        v: (A,).
        w_c: (A,).
        sizes: queries and keys of each document.

    Returns:
        log a^t (B, T, S), -inf outside of the sizes, and sum of min(a_i, c_i) of each step (B, T).
    """
    parts = (_wide(tensor) for tensor in (queries, keys, v, w_c))
    with torch.autocast("cpu", enabled=False):
        result: tuple[Tensor, Tensor] = _CoveredAttention.apply(*parts, sizes)  # type: ignore[no-untyped-call]
    return result


class _CoveredAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, v: Tensor, w_c: Tensor, sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor]:
        log_attention = queries.new_full((*queries.shape[:2], keys.shape[1]), -math.inf)
        losses = queries.new_zeros(queries.shape[:2])
        num_values = sum(num_queries * num_keys for num_queries, num_keys in sizes) * len(v)
        keeps = any(ctx.needs_input_grad) and num_values <= _MOST_KEPT
        kept = []
        for b, (num_queries, num_keys) in enumerate(sizes):
            document_keys = keys[b, :num_keys]
            coverage = queries.new_zeros(num_keys)
            for t in range(num_queries):
                u = _features(document_keys, queries[b, t], coverage, w_c)
                log_weights = torch.log_softmax(u @ v, dim=0)
                weights = log_weights.exp()
                log_attention[b, t, :num_keys] = log_weights
                losses[b, t] = torch.minimum(weights, coverage).sum()
                coverage = coverage + weights
                if keeps:
                    kept.append(u)
        ctx.save_for_backward(queries, keys, v, w_c, log_attention, *kept)
        ctx.sizes = sizes
        return log_attention, losses

    @staticmethod
    def backward(ctx: Any, grad_log: Tensor, grad_losses: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, v, w_c, log_attention, *kept = ctx.saved_tensors
        grad_queries, grad_keys = torch.zeros_like(queries), torch.zeros_like(keys)
        grad_v, grad_w_c = torch.zeros_like(v), torch.zeros_like(w_c)
        first_kept = 0
        for b, (num_queries, num_keys) in enumerate(ctx.sizes):
            document_keys, keys_grad = keys[b, :num_keys], grad_keys[b, :num_keys]
            attention = log_attention[b, :num_queries, :num_keys].exp()  # (T, S)
            before = attention.cumsum(dim=0) - attention  # c^t
            grad_coverage = queries.new_zeros(num_keys)  # by c^(t+1), from all later steps
            for t in range(num_queries - 1, -1, -1):
                weights, coverage = attention[t], before[t]
                features = document_keys, queries[b, t], coverage, w_c
                u = kept[first_kept + t] if kept else _features(*features)
                # min(a, c) passes its gradient to the smaller one, half to each if they are equal
                to_weights = ((weights < coverage).to(u) + (weights <= coverage).to(u)) / 2
                grad_loss = grad_losses[b, t]
                grad_weights = torch.addcmul(grad_coverage, to_weights, grad_loss)
                grad_coverage = grad_coverage + (1 - to_weights) * grad_loss
                through_log = grad_log[b, t, :num_keys]
                centred = grad_weights - weights @ grad_weights - through_log.sum()
                grad_scores = torch.addcmul(through_log, weights, centred)  # (S,)
                grad_v += grad_scores @ u
                inside = (1 - u * u) * v * grad_scores[:, None]  # (S, A)
                keys_grad += inside
                grad_queries[b, t] = inside.sum(dim=0)
                grad_w_c += coverage @ inside
                grad_coverage = grad_coverage + inside @ w_c
            first_kept += num_queries
        return grad_queries, grad_keys, grad_v, grad_w_c, None


def _features(keys: Tensor, query: Tensor, coverage: Tensor, w_c: Tensor) -> Tensor:
    """tanh(k_i + q + w_c c_i), (S, A)."""
    return torch.addr(keys + query, coverage, w_c).tanh_()


def _wide(x: Tensor) -> Tensor:
    """In float32 at least: sums of attention in half precision would lose the small shares."""
    return x if x.dtype == torch.float64 else x.float()
