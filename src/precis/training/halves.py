"""A batch that does not fit into memory, done in two halves: the same gradient with half the memory."""

from __future__ import annotations

import torch
from torch import Tensor

from precis.batches.batch import Batch
from precis.errors import PrecisError
from precis.models.base import SummarizationModel
from precis.training.flight_recorder import inputs_of


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on a GPU or here."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def too_large(batch: Batch, update: int, what: str) -> PrecisError:
    """What to say when there is nothing more to try."""
    rows, longest = batch.source_ids.shape
    return PrecisError(
        f"out of memory at update {update}: {what} {rows} rows, the longest of {longest} words, does not fit; "
        "lower train.batch_size or encode.source_max_length, or take a machine with more memory"
    )


def backward_in_halves(model: SummarizationModel, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Add the gradient of a batch's loss to the weights, half of its rows at a time.

    The loss is a mean over target words, so each half counts by the words that it has.

    Returns:
        the loss of the batch, -log P(target) summed over its target words, and their number; no gradient.
    """
    middle = (len(batch.rows) + 1) // 2
    total, nll, num_tokens = (torch.zeros((), device=batch.source_ids.device) for _ in range(3))
    for rows in (slice(0, middle), slice(middle, None)):
        if len(batch.rows[rows]) == 0:
            continue
        losses = model.training_loss(*inputs_of(batch, rows))
        summed = losses.total * losses.num_tokens
        summed.backward()  # type: ignore[no-untyped-call]
        total += summed.detach()
        nll += losses.nll_sum
        num_tokens += losses.num_tokens
        del losses, summed  # or the first half's graph would be there with the second's
    number = num_tokens.clamp(min=1)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= number
    return total / number, nll, num_tokens
