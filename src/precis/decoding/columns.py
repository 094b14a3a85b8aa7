"""The next words of a hypothesis without the extended distribution.

Only words of the document can be copied. A document's distinct words get a *column* each; the copy mass lives
in (B, K, U), U columns, and what the model says of its V words is never widened to V+O. A word of both, source
and vocabulary, lives in its column, where both of its masses are added.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from precis.decoding.word_scores import WordScores


@dataclass(frozen=True)
class Columns:
    """The distinct words of each document, and the end.

    Attributes:
        ids: extended ids, (B, U); `pad` where a document has fewer than U words.
        of_position: the column of each source position, (B, S); None when nothing can be copied.
        end: the column of the end of the summary, (B,).
        vocab_ids: `ids`, but `pad` for words outside the vocabulary, (B, U).
        outside: True where a column's word is not in the vocabulary, (B, U).
    """

    ids: Tensor
    of_position: Tensor | None
    end: Tensor
    vocab_ids: Tensor
    outside: Tensor

    def of_documents(self, rows: Tensor) -> Columns:
        """The columns of some documents of the batch."""
        return Columns(
            ids=self.ids[rows],
            of_position=None if self.of_position is None else self.of_position[rows],
            end=self.end[rows],
            vocab_ids=self.vocab_ids[rows],
            outside=self.outside[rows],
        )


def source_columns(
    extended_ids: Tensor, *, vocabulary_size: int, pad: int, eos: int, copies: bool
) -> Columns:
    """Give each distinct word of each document a column.

    Args:
        extended_ids: extended-vocabulary ids of the sources, (B, S), `pad` after their ends.
        vocabulary_size: V; ids from V on are source OOVs.
        pad: id of padding.
        eos: id of the end of a summary; it has a column in every document.
        copies: False for a model that cannot copy: then the end is the only column.
    """
    num_documents = extended_ids.shape[0]
    ends = torch.full((num_documents, 1), eos, dtype=torch.int64, device=extended_ids.device)
    if not copies:
        extended_ids = extended_ids[:, :0]
    words = torch.cat([ends, extended_ids], dim=1)
    in_order, positions = words.sort(dim=1)
    is_new = torch.ones_like(in_order, dtype=torch.bool)
    is_new[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    column_in_order = is_new.cumsum(1) - 1
    columns = torch.empty_like(words).scatter_(1, positions, column_in_order)
    num_columns = int(column_in_order.max()) + 1
    ids = torch.full((num_documents, num_columns), pad, dtype=torch.int64, device=words.device)
    ids.scatter_(1, columns, words)
    outside = ids >= vocabulary_size
    return Columns(
        ids=ids,
        of_position=columns[:, 1:] if copies else None,
        end=columns[:, 0],
        vocab_ids=ids.masked_fill(outside, pad),
        outside=outside,
    )


@dataclass(frozen=True)
class NextWords:
    """Log-probabilities of the next word of every hypothesis, where it is the word of a column.

    Attributes:
        generated: log of the generated mass of the columns, (B, K, U).
        copied: log of their copied mass, (B, K, U).
        total: log-probability of the columns, (B, K, U): generated and copied mass.
        offset: log p_gen, (B, K, 1), or 0, (1, 1, 1): to be added to log P_vocab of words that have no column.
        p_gen: (B, K), or None for a model that cannot copy.
    """

    generated: Tensor
    copied: Tensor
    total: Tensor
    offset: Tensor
    p_gen: Tensor | None

    def expand(self, beams: int) -> NextWords:
        """The same for `beams` equal hypotheses of each document."""
        return NextWords(
            generated=self.generated.expand(-1, beams, -1),
            copied=self.copied.expand(-1, beams, -1),
            total=self.total.expand(-1, beams, -1),
            offset=self.offset.expand(-1, beams, -1),
            p_gen=None if self.p_gen is None else self.p_gen.expand(-1, beams),
        )


def next_words(
    vocabulary: WordScores, attention: Tensor | None, p_gen_logit: Tensor | None, columns: Columns
) -> NextWords:
    """Log P(w) (See et al., 2017, eq. 9) of the columns."""
    generated = vocabulary.of(columns.vocab_ids)
    generated.masked_fill_(columns.outside.unsqueeze(1), -torch.inf)
    if p_gen_logit is None or attention is None or columns.of_position is None:
        nothing = torch.full_like(generated, -torch.inf)
        return NextWords(generated, nothing, generated.clone(), generated.new_zeros(1, 1, 1), p_gen=None)
    log_p_gen = torch.nn.functional.logsigmoid(p_gen_logit)
    log_p_copy = torch.nn.functional.logsigmoid(-p_gen_logit)
    positions = columns.of_position.unsqueeze(1).expand(-1, generated.shape[1], -1)
    copy_mass = torch.zeros_like(generated).scatter_add_(2, positions, attention)
    generated = generated + log_p_gen
    copied = copy_mass.log() + log_p_copy
    total = torch.logaddexp(generated, copied)
    return NextWords(generated, copied, total, log_p_gen, p_gen=p_gen_logit.sigmoid().squeeze(2))
