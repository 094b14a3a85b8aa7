"""Moving whole rows of a tensor, deterministically and without a scatter in the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _PermuteRows(torch.autograd.Function):
    """x[order] for an order that is its own inverse: the gradient is the same gather again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return grad.index_select(0, order), None


class _TakeRows(torch.autograd.Function):
    """x[rows] for rows that are all different: the gradient is a copy into zeros."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.num_rows = x.shape[0]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return grad.new_zeros(ctx.num_rows, *grad.shape[1:]).index_copy_(0, rows, grad), None


def permute_rows(x: Tensor, order: Tensor) -> Tensor:
    """x[order] for a (M, F) tensor and an order (M,) that is its own inverse."""
    permuted: Tensor = _PermuteRows.apply(x, order)  # type: ignore[no-untyped-call]
    return permuted


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows] for a (R, F) tensor and different rows (N,)."""
    taken: Tensor = _TakeRows.apply(x, rows)  # type: ignore[no-untyped-call]
    return taken
