"""Word embeddings of source and target: one table if they share the vocabulary, otherwise two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from precis.models.segments import Segments
from precis.models.source import BOS_ID, PAD_ID, UNK_ID, Source, Target


class WordEmbeddings(nn.Module):
    """The tables, with dropout of whole words and of features.

    Args:
        source_size: words of the source vocabulary.
        target_size: words of the target vocabulary.
        embedding_size: E.
        shared: source and target have one vocabulary and so one table.
        word_dropout: share of the input words that training replaces by UNK_ID.
    """

    def __init__(
        self, source_size: int, target_size: int, embedding_size: int, shared: bool, word_dropout: float
    ) -> None:
        super().__init__()
        self.target = nn.Parameter(torch.randn(target_size, embedding_size) * 0.1)
        self.source = None if shared else nn.Parameter(torch.randn(source_size, embedding_size) * 0.1)
        self.word_dropout = word_dropout

    def forward(self, source: Source, segments: Segments, target: Target) -> tuple[Tensor, Tensor]:
        """Embedded source words in the order of the segments (M, E), and target inputs (T, B, E), time-major."""
        source_ids = segments.pick(self._drop_words(source.ids, source.mask))
        target_ids = self._drop_words(
            target.inputs, (target.inputs != PAD_ID) & (target.inputs != BOS_ID)
        ).t()
        if self.source is not None:
            return embed(source_ids, self.source), embed(target_ids, self.target)
        # one look-up, so that the backward pass fills one gradient of the table's size instead of two
        words = embed(torch.cat([source_ids, target_ids.flatten()]), self.target)
        source_words, target_words = torch.split(words, [len(source_ids), target_ids.numel()])
        return source_words, target_words.view(*target_ids.shape, -1)

    def embed_source(self, ids: Tensor) -> Tensor:
        """Embedded source words, without dropout."""
        return embed(ids, self.target if self.source is None else self.source)

    def embed_target(self, ids: Tensor) -> Tensor:
        """Embedded target words, without dropout."""
        return embed(ids, self.target)

    def _drop_words(self, ids: Tensor, mask: Tensor) -> Tensor:
        if not self.training or self.word_dropout == 0:
            return ids
        dropped = torch.rand(ids.shape, device=ids.device) < self.word_dropout
        return ids.masked_fill(dropped & mask, UNK_ID)


def embed(ids: Tensor, table: Tensor) -> Tensor:
    """Rows of the table."""
    return nn.functional.embedding(ids, table, padding_idx=PAD_ID)
