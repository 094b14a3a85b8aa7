"""The final distribution over the extended vocabulary."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from precis.models.base import Step


def final_log_probs(step: Step, extended_ids: Tensor, num_oovs: int) -> Tensor:
    """Log P(w) over the extended vocabulary (See et al., 2017, eq. 9).

    A sum of two logarithms and no product of probabilities: a p_gen of 0 or 1 loses nothing.

    Args:
        step: of a model; one without a pointer only generates.
        extended_ids: of the source words, (B, S).
        num_oovs: O, the most source OOVs that any source of the batch has.

    Returns:
        (B, K, V+O); logsumexp of each row is 0; -inf where neither vocabulary nor source has the word.
    """
    generated = step.vocab_log_probs
    if step.p_gen_logit is None or step.attention is None:
        return torch.nn.functional.pad(generated, (0, num_oovs), value=-math.inf)
    log_gen = torch.nn.functional.logsigmoid(step.p_gen_logit)  # (B, K, 1)
    log_copy = torch.nn.functional.logsigmoid(-step.p_gen_logit)
    final = torch.nn.functional.pad(generated + log_gen, (0, num_oovs), value=-math.inf)
    ids = extended_ids[:, None].expand(-1, generated.shape[1], -1)  # (B, K, S)
    mass = torch.zeros_like(final).scatter_add_(2, ids, step.attention.to(final.dtype)).gather(2, ids)
    # equal ids get equal values: it does not matter which of them is written last
    mixed = torch.logaddexp(final.gather(2, ids), mass.log() + log_copy)
    return final.scatter_(2, ids, mixed)
