"""Additive scores: a tanh for each query, key and feature, without a tensor of that size."""

from __future__ import annotations

import torch
from torch import Tensor


def additive_scores(
    queries: Tensor, keys: Tensor, v: Tensor, coverage: Tensor | None = None, w_c: Tensor | None = None
) -> Tensor:
    """e_i^t = v . tanh(k_i + q_t + w_c c_i^t) (See et al., 2017, eq. 1 and 11).

    Args:
        queries: w_s s_t + b_attn, (B, T, A).
        keys: w_h h_i, (B, S, A).
        v: (A,).
        coverage: c^t, (B, T, S); None: without the last term.
        w_c: (A,).

    Returns:
        (B, T, S).
    """
    columns = []
    for t in range(queries.shape[1]):
        features = keys + queries[:, t, None]  # (B, S, A)
        if coverage is not None and w_c is not None:
            features = features + coverage[:, t, :, None] * w_c
        columns.append(torch.tanh(features) @ v)
    return torch.stack(columns, dim=1)
