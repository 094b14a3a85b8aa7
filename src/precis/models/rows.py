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


def reversal(lengths: Tensor, num_steps: int) -> Tensor:
    """The order that reverses each row within its length, for a flattened time-major tensor.

    Args:
        lengths: of the rows, (B,).
        num_steps: S.

    Returns:
        (S*B,); applied twice it changes nothing; what lies past a row's length stays in place.
    """
    steps = torch.arange(num_steps, device=lengths.device)[:, None]  # (S, 1)
    reversed_steps = torch.where(steps < lengths, lengths - 1 - steps, steps)  # (S, B)
    batch_size = lengths.shape[0]
    return (reversed_steps * batch_size + torch.arange(batch_size, device=lengths.device)).flatten()


def permute_rows(x: Tensor, order: Tensor) -> Tensor:
    """Reorder the rows of a time-major tensor (S, B, F) by an order (S*B,) that is its own inverse."""
    flat: Tensor = _PermuteRows.apply(x.flatten(0, 1), order)  # type: ignore[no-untyped-call]
    return flat.view(x.shape)


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows] for a (R, F) tensor and different rows (N,)."""
    taken: Tensor = _TakeRows.apply(x, rows)  # type: ignore[no-untyped-call]
    return taken
