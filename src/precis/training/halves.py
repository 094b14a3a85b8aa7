"""A batch that does not fit into memory, done in two halves: the same gradient with half the memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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


def gradients_in_halves(
    model: SummarizationModel, batch: Batch, consistency_weight: float = 0.0
) -> tuple[dict[nn.Parameter, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """The gradient of a batch's loss, from half of its rows at a time.

    The loss is a mean over target words, so each half counts by the words that it has.

    Returns:
        the gradient of each weight that has one; and of the batch the loss, -log P(target) summed over its target
        words, and their number.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients: dict[nn.Parameter, Tensor] = {}
    middle = (len(batch.rows) + 1) // 2
    total, nll, num_tokens = (torch.zeros((), device=batch.source_ids.device) for _ in range(3))
    for rows in (slice(0, middle), slice(middle, None)):
        if len(batch.rows[rows]) == 0:
            continue
        losses = model.training_loss(*inputs_of(batch, rows), consistency_weight)
        summed = losses.total * losses.num_tokens
        half = torch.autograd.grad(summed, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, half, strict=True):
            if gradient is not None:
                before = gradients.get(parameter)
                gradients[parameter] = gradient if before is None else before + gradient
        total += summed.detach()
        nll += losses.nll_sum
        num_tokens += losses.num_tokens
        del losses, summed, half  # or the first half's graph would be there with the second's
    number = num_tokens.clamp(min=1)
    gradients = {parameter: (value / number).contiguous() for parameter, value in gradients.items()}
    return gradients, (total / number, nll, num_tokens)
