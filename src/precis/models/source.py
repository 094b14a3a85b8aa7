"""What goes into a model: padded batches of word ids."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3


@dataclass(frozen=True)
class Source:
    """A batch of documents.

    Attributes:
        ids: source-vocabulary ids, unknown words as UNK_ID, PAD_ID after the last word, (B, S).
        extended_ids: target-vocabulary ids, source OOVs as V, V+1, ..., PAD_ID after the last word, (B, S).
        lengths: words of each row, (B,).
        num_oovs: O, the most source OOVs that any row has.
    """

    ids: Tensor
    extended_ids: Tensor
    lengths: Tensor
    num_oovs: int

    @property
    def mask(self) -> Tensor:
        """True at words, (B, S)."""
        return torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Source:
        """The same batch on another device."""
        return Source(
            self.ids.to(device, non_blocking=non_blocking),
            self.extended_ids.to(device, non_blocking=non_blocking),
            self.lengths.to(device, non_blocking=non_blocking),
            self.num_oovs,
        )


@dataclass(frozen=True)
class Target:
    """The summaries of a batch, shifted for teacher forcing.

    Attributes:
        inputs: target-vocabulary ids, BOS_ID first, UNK_ID for extended ids, PAD_ID after the last, (B, T).
        ids: extended ids to predict, EOS_ID last, PAD_ID after it, (B, T).
    """

    inputs: Tensor
    ids: Tensor

    @property
    def mask(self) -> Tensor:
        """True at words and at the EOS_ID, (B, T)."""
        return self.ids != PAD_ID

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Target:
        """The same batch on another device."""
        return Target(
            self.inputs.to(device, non_blocking=non_blocking), self.ids.to(device, non_blocking=non_blocking)
        )
