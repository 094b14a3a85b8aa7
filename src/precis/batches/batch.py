"""A padded batch of pairs, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precis.batches.encoded import EncodedRow
from precis.text.vocabulary import BOS_ID, EOS_ID, PAD_ID, UNK_ID


@dataclass(frozen=True)
class Batch:
    """B pairs, padded with PAD_ID to the longest source (S) and the longest target (T)."""

    rows: Tensor  # (B,) row numbers in the encoded split
    source_ids: Tensor  # (B, S) source-vocabulary ids
    source_extended_ids: Tensor  # (B, S) extended target-vocabulary ids
    source_lengths: Tensor  # (B,)
    target_inputs: Tensor  # (B, T) target-vocabulary ids: BOS, then the words; source OOVs are UNK
    target_ids: Tensor  # (B, T) extended ids to predict: the words, then EOS
    num_oovs: int  # the most source OOVs that any source of the batch has

    @property
    def num_target_tokens(self) -> int:
        """Words and ends to predict."""
        return int((self.target_ids != PAD_ID).sum())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same batch on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if isinstance(value, Tensor):
                values[name] = value.to(device, non_blocking=non_blocking)
        return type(self)(**values)


def without_rows(batch: Batch) -> Batch:
    """A batch of no rows, for a worker that must take its part all the same: nothing of it is to be predicted."""
    return replace(batch, rows=batch.rows[:0], target_ids=torch.full_like(batch.target_ids, PAD_ID))


def make_batch(row_numbers: list[int], rows: list[EncodedRow], target_vocabulary_size: int) -> Batch:
    """Pad rows into one batch."""
    targets = [np.append(row.target_ids, EOS_ID) for row in rows]
    target_ids = _padded(targets)
    target_inputs = np.full_like(target_ids, PAD_ID)
    target_inputs[:, 0] = BOS_ID
    for place, target in enumerate(targets):
        target_inputs[place, 1 : len(target)] = target[:-1]
    # the decoder reads words of its own vocabulary only
    target_inputs[target_inputs >= target_vocabulary_size] = UNK_ID
    return Batch(
        rows=torch.tensor(row_numbers, dtype=torch.int64),
        source_ids=torch.from_numpy(_padded([row.source_ids for row in rows])),
        source_extended_ids=torch.from_numpy(_padded([row.source_extended_ids for row in rows])),
        source_lengths=torch.tensor([len(row.source_ids) for row in rows], dtype=torch.int64),
        target_inputs=torch.from_numpy(target_inputs),
        target_ids=torch.from_numpy(target_ids),
        num_oovs=max(row.num_oovs for row in rows),
    )


def _padded(rows: list[NDArray[np.int32]]) -> NDArray[np.int64]:
    longest = max(len(row) for row in rows)
    padded = np.full((len(rows), longest), PAD_ID, dtype=np.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded
