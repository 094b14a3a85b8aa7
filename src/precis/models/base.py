"""What every model can do, and what its answers look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from precis.errors import PrecisError
from precis.models.source import Source, Target

Memory = dict[str, Tensor]
"""What the encoder leaves for the decoder; the first dimension of every tensor is B."""

State = dict[str, Tensor]
"""What one step leaves for the next; the first two dimensions of every tensor are (B, K), K beams."""


@dataclass(frozen=True)
class Losses:
    """The losses of one batch; every tensor is a scalar.

    Attributes:
        total: what training minimises: the mean over target words, with all additions.
        nll_sum: -log P(target) summed over the target words; without smoothing or additions; no gradient.
        num_tokens: target words in the sum, each EOS_ID too; unreachable ones are not.
        num_unreachable: target words that nothing can produce: left out of every sum.
        pointing: mean pointing loss over target words; None for models that are not told where to attend.
        coverage: mean coverage loss over target words; None without coverage.
        consistency: how much two readings of the batch differ, see `precis.models.consistency`; None if it was read
            once. Both readings are in all the sums.
    """

    total: Tensor
    nll_sum: Tensor
    num_tokens: Tensor
    num_unreachable: Tensor
    pointing: Tensor | None
    coverage: Tensor | None
    consistency: Tensor | None


@dataclass(frozen=True)
class Step:
    """One decoder step for K beams of each document.

    Attributes:
        vocab_log_probs: log P_vocab, (B, K, V).
        attention: a^t, 0 at padding, (B, K, S); None for a model without attention.
        p_gen_logit: logit of the probability of generating, (B, K, 1); None for a model without a pointer.
        state: for the next step.
    """

    vocab_log_probs: Tensor
    attention: Tensor | None
    p_gen_logit: Tensor | None
    state: State


class SummarizationModel(nn.Module, ABC):
    """An encoder and a decoder that can be trained and stepped.

    Attributes:
        name: its name in `build_model`.
        options: the other arguments of `build_model` that build it again.
    """

    name: str
    options: dict[str, Any]

    @abstractmethod
    def training_loss(self, source: Source, target: Target, consistency_weight: float = 0.0) -> Losses:
        """The losses with teacher forcing; dropout and smoothing only in training mode.

        Args:
            source: the documents.
            target: their summaries.
            consistency_weight: alpha of R-Drop (Liang et al., 2021): the batch is read twice, and half of it times
                what the readings differ by is added to the total. 0: it is read once.
        """

    @abstractmethod
    def encode(self, source: Source) -> Memory:
        """Read the documents once, for any number of steps."""

    @abstractmethod
    def initial_state(self, memory: Memory, beams: int) -> State:
        """The state before the first step, the same for each of the K beams."""

    @abstractmethod
    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> Step:
        """One decoder step.

        Args:
            memory: of `encode`; its rows are documents and are not repeated for the beams.
            state: of `initial_state` or of the step before; never changed in place.
            previous_ids: target-vocabulary ids of the words before, BOS_ID first, (B, K).
        """

    def switch_coverage(self, on: bool) -> None:
        """Turn coverage on or off between updates; it is saved with the model.

        Raises:
            PrecisError: the model was built without coverage.
        """
        if on:
            raise PrecisError("this model has no coverage: build it with `coverage: true`")

    def coverage_parameters(self) -> list[nn.Parameter]:
        """The weights that only coverage has: w_c of the attention; none in a model without it."""
        return []
