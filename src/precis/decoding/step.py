"""What the search asks of a decoder: any object with these two methods can be searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from precis.decoding.word_scores import WordScores

Memory = dict[str, Tensor]  # what the encoder gave; first dimension documents
State = dict[str, Tensor]  # what one step hands to the next; first dimensions documents, beams


class Step(Protocol):
    """What a decoder says about the next word of every hypothesis."""

    @property
    def vocab_log_probs(self) -> Tensor | WordScores:
        """P_vocab in log space, (B, K, V), or an object that can be asked about it."""

    @property
    def attention(self) -> Tensor | None:
        """a^t over the source, (B, K, S), 0 at padding; None for a model without attention."""

    @property
    def p_gen_logit(self) -> Tensor | None:
        """logit(p_gen), (B, K, 1); None for a model that cannot copy."""

    @property
    def state(self) -> State:
        """The state after this step."""


class Decoder(Protocol):
    """The half of a model that writes. Beams of one document share its memory."""

    def initial_state(self, memory: Memory, beams: int) -> State:
        """The state before the first word, of `beams` equal hypotheses per document."""

    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> Step:
        """One step after `previous_ids`, (B, K), in ids of the target vocabulary."""


@dataclass(frozen=True)
class SpecialIds:
    """The ids that are no words."""

    pad: int
    unk: int
    bos: int
    eos: int

    @property
    def never_written(self) -> tuple[int, ...]:
        """What no summary contains."""
        return (self.pad, self.unk, self.bos)


def select_documents(tensors: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """Memory or state of some documents of the batch; what was one tensor under two names stays one."""
    selected = {id(tensor): tensor.index_select(0, rows) for tensor in tensors.values()}
    return {name: selected[id(tensor)] for name, tensor in tensors.items()}


def fill_holes(stays: Tensor) -> Tensor:
    """The rows that stay, (N,), in an order that moves few of them: the last ones take the places of those that go.

    Args:
        stays: of each row, (rows,).
    """
    number = int(stays.sum())
    rows = torch.arange(number, device=stays.device)
    rows[~stays[:number]] = number + stays[number:].nonzero().squeeze(1)
    return rows


def keep_documents(tensors: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
    """What `select_documents` gives for rows of `fill_holes`, but in the tensors given: they are overwritten."""
    holes = (rows != torch.arange(len(rows), device=rows.device)).nonzero().squeeze(1)
    moved = rows[holes]
    kept: dict[int, Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in kept:
            tensor.index_copy_(0, holes, tensor.index_select(0, moved))
            kept[id(tensor)] = tensor[: len(rows)]
    return {name: kept[id(tensor)] for name, tensor in tensors.items()}


def select_beams(state: State, parents: Tensor) -> State:
    """The state of hypotheses that continue those of `parents`, (B, K): numbers of beams of the state."""
    num_documents, beams = parents.shape
    first = torch.arange(num_documents, device=parents.device).unsqueeze(1)
    selected = {}
    for name, tensor in state.items():
        rows = (first * tensor.shape[1] + parents).flatten()
        chosen = tensor.flatten(0, 1).index_select(0, rows)
        selected[name] = chosen.reshape(num_documents, beams, *tensor.shape[2:])
    return selected
