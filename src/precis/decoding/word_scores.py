"""What one step says about the words of the vocabulary, asked only for what a search needs of it.

A search looks at the words of the document, and of all others at a few of the best. So nobody has to make
log P_vocab of V words for every hypothesis: whoever knows a cheaper way gives an object with these three methods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

BLOCKS = 64  # the vocabulary is looked at in this many interleaved blocks to find its best words


@runtime_checkable
class WordScores(Protocol):
    """Log P_vocab of K hypotheses of each of B documents."""

    @property
    def vocabulary_size(self) -> int:
        """V."""

    def of(self, ids: Tensor) -> Tensor:
        """Log P_vocab of some words of each document, ids (B, U); a tensor of its own, (B, K, U)."""

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """The most probable words, best first: log P_vocab and ids, (B, K, `count` or V if that is less)."""

    def everything(self) -> Tensor:
        """Log P_vocab, (B, K, V)."""


@dataclass(frozen=True)
class DenseWordScores:
    """A whole distribution.

    Attributes:
        log_probs: log P_vocab, (B, K, V).
    """

    log_probs: Tensor

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return self.log_probs.shape[2]

    def of(self, ids: Tensor) -> Tensor:
        """Of some words of each document."""
        return self.log_probs.gather(2, ids.unsqueeze(1).expand(-1, self.log_probs.shape[1], -1))

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """The most probable words."""
        return top_words(self.log_probs, count)

    def everything(self) -> Tensor:
        """Of all words."""
        return self.log_probs


def word_scores(vocab_log_probs: Tensor | WordScores) -> WordScores:
    """What a step gave as an object that can be asked."""
    return DenseWordScores(vocab_log_probs) if isinstance(vocab_log_probs, Tensor) else vocab_log_probs


def top_words(log_probs: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest entries of the last dimension and their places, largest first.

    torch.topk walks the vocabulary element by element; here one vectorised pass takes the maximum of each of
    many small blocks, and only the `count` blocks of the largest maxima, which must hold the answer, are
    looked into.
    """
    size = log_probs.shape[-1]
    width = size // BLOCKS  # of an interleaved block: word i is in block i % width
    if width <= 2 * count:
        return log_probs.topk(min(count, size), dim=-1)
    whole = width * BLOCKS
    blocks = log_probs[..., :whole].reshape(*log_probs.shape[:-1], BLOCKS, width)
    best = blocks.amax(-2).topk(count, dim=-1).indices
    members = best.unsqueeze(-2) + width * torch.arange(BLOCKS, device=best.device).unsqueeze(-1)
    members = members.flatten(-2)
    if whole < size:
        rest = torch.arange(whole, size, device=best.device).expand(*members.shape[:-1], -1)
        members = torch.cat([members, rest], dim=-1)
    values, where = log_probs.gather(-1, members).topk(count, dim=-1)
    return values, members.gather(-1, where)
