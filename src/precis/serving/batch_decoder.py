"""The decoder of one batch: the same model, with an output layer that is cheap to ask again and again."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from precis.models.base import Memory, State, SummarizationModel
from precis.models.output import OutputLayer
from precis.models.source import Source
from precis.serving.output_scores import OutputMatrix, OutputScorer, OutputScores


@dataclass(frozen=True)
class DecoderStep:
    """One step, with an output layer that is asked for no more than the search needs."""

    vocab_log_probs: Tensor | OutputScores
    attention: Tensor | None
    p_gen_logit: Tensor | None
    state: State


class BatchDecoder:
    """Steps of a model, for the search of one batch in one thread.

    Args:
        model: in evaluation mode; in bfloat16 what `in_bfloat16` made of it.
        output: what `output_matrix` made of it; None for a model that generates no words.

    Attributes:
        num_steps: steps taken so far, those of each hypothesis counted.
    """

    def __init__(self, model: SummarizationModel, output: OutputMatrix | None) -> None:
        self.num_steps = 0
        self._model = model
        self._scorer: OutputScorer | None = None
        if output is not None:
            self._scorer = OutputScorer(output)
            self._model = _with_output(model, _Readout(_output_owner(model).output))

    def encode(self, source: Source) -> Memory:
        """Read the documents."""
        memory = self._model.encode(source)
        if self._scorer is None or self._scorer.output.listed is None:
            return memory
        # in the memory, so that it follows the documents when others leave the batch
        return {**memory, **self._scorer.output.words_besides(source.extended_ids)}

    def initial_state(self, memory: Memory, beams: int) -> State:
        """The state before the first word."""
        return self._model.initial_state(memory, beams)

    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> DecoderStep:
        """One step; what it says of the vocabulary holds until the next."""
        self.num_steps += previous_ids.numel()
        step = self._model.step(memory, state, previous_ids)
        given = _full(step.vocab_log_probs)
        # with a scorer the model gave the readout in their place
        scores = given if self._scorer is None else self._scorer.score(given, memory)
        attention = None if step.attention is None else _full(step.attention)
        p_gen_logit = None if step.p_gen_logit is None else _full(step.p_gen_logit)
        return DecoderStep(scores, attention, p_gen_logit, step.state)


def in_bfloat16(model: SummarizationModel) -> SummarizationModel:
    """A copy of a model that reads and steps in bfloat16.

    Processors with AMX multiply in it several times as fast. The softmax of the attention and all that a search adds
    up stay in full precision; for the output layer see `output_matrix`.
    """
    return copy.deepcopy(model).bfloat16()


def output_matrix(
    model: SummarizationModel, listed: Tensor | None = None, *, int8: bool = False, bfloat16: bool = False
) -> OutputMatrix | None:
    """The output layer of a model for `BatchDecoder`; None for a model that generates no words.

    Args:
        model: whose layer it is, in full precision. With nothing of what follows it stays the model's own, else it
            is a copy.
        listed: the words of the shortlist, rising; None: all words.
        int8: whether to screen in eight bits.
        bfloat16: whether to screen in bfloat16, if not in eight bits.
    """
    owner = _output_owner(model)
    if owner is None:
        return None
    matrix, bias = owner.output.matrix(owner.embeddings.target).detach(), owner.output.bias.detach()
    return OutputMatrix.of(matrix, bias, listed, int8=int8, bfloat16=bfloat16)


def _full(values: Tensor) -> Tensor:
    """Values of a model in bfloat16 for a search in full precision; others as they are."""
    return values.float() if values.dtype == torch.bfloat16 else values


def _output_owner(model: SummarizationModel) -> Any:
    """The part of a model that has `output` and `embeddings`: itself, or what a pointer is built around."""
    inner = getattr(model, "seq2seq", model)
    return inner if isinstance(getattr(inner, "output", None), OutputLayer) else None


class _Readout(nn.Module):
    """An output layer without its matrix: it gives what the matrix would be multiplied with."""

    def __init__(self, layer: OutputLayer) -> None:
        super().__init__()
        self._layer = [layer]  # in a list: its parameters are not this module's

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """(B, K, F) to (B, K, R)."""
        return self._layer[0].read_out(features)


def _with_output(model: SummarizationModel, output: nn.Module) -> SummarizationModel:
    """The same model, sharing all of its parts but the output layer."""
    clone = _shallow(model)
    inner = clone
    if hasattr(model, "seq2seq"):
        inner = _shallow(cast(SummarizationModel, model.seq2seq))
        clone._modules["seq2seq"] = inner
    inner._modules["output"] = output
    return clone


def _shallow(module: SummarizationModel) -> SummarizationModel:
    clone = copy.copy(module)
    clone._modules = dict(module._modules)
    return clone
