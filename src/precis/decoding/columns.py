"""The next words of a hypothesis without the extended distribution.

Only words of the document can be copied. A document's distinct words get a *column* each; the copy mass lives
in (B, K, U), U columns, and the (B, K, V) that the model made is never widened to V+O. A word of both, source
and vocabulary, is taken out of V and lives in its column, where both of its masses are added.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCKS = 64  # the vocabulary is looked at in this many interleaved blocks to find its best words


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
    """Log-probabilities of the next word of every hypothesis: of the columns, and of the rest of the vocabulary.

    Attributes:
        vocab: (B, K, V), -inf at the words that have a column; `vocab_offset`, (B, K, 1), is still to be added.
        vocab_offset: log p_gen, or 0.
        generated: log of the generated mass of the columns, (B, K, U).
        copied: log of their copied mass, (B, K, U).
        total: log-probability of the columns, (B, K, U): generated and copied mass.
        p_gen: (B, K), or None for a model that cannot copy.
    """

    vocab: Tensor
    vocab_offset: Tensor
    generated: Tensor
    copied: Tensor
    total: Tensor
    p_gen: Tensor | None


def next_words(
    vocab_log_probs: Tensor, attention: Tensor | None, p_gen_logit: Tensor | None, columns: Columns
) -> NextWords:
    """Split log P(w) (See et al., 2017, eq. 9) into columns and rest; takes `vocab_log_probs` over."""
    beams = vocab_log_probs.shape[1]
    vocab_ids = columns.vocab_ids.unsqueeze(1).expand(-1, beams, -1)
    generated = vocab_log_probs.gather(2, vocab_ids)
    generated.masked_fill_(columns.outside.unsqueeze(1), -torch.inf)
    vocab = vocab_log_probs.scatter_(2, vocab_ids, -torch.inf)
    if p_gen_logit is None or attention is None or columns.of_position is None:
        offset = generated.new_zeros(1, 1, 1)
        nothing = torch.full_like(generated, -torch.inf)
        return NextWords(vocab, offset, generated, nothing, generated.clone(), p_gen=None)
    log_p_gen = torch.nn.functional.logsigmoid(p_gen_logit)
    log_p_copy = torch.nn.functional.logsigmoid(-p_gen_logit)
    positions = columns.of_position.unsqueeze(1).expand(-1, beams, -1)
    copy_mass = torch.zeros_like(generated).scatter_add_(2, positions, attention)
    generated = generated + log_p_gen
    copied = copy_mass.log() + log_p_copy
    total = torch.logaddexp(generated, copied)
    return NextWords(vocab, log_p_gen, generated, copied, total, p_gen=p_gen_logit.sigmoid().squeeze(2))


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
