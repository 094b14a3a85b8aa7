"""Which words the open hypotheses of a document go on with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from precis.decoding.columns import Columns, NextWords


@dataclass(frozen=True)
class Candidates:
    """The best words of each beam that have no column, best first, (rows, K, N)."""

    ids: Tensor
    log_probs: Tensor

    def expand(self, beams: int) -> Candidates:
        """The same for `beams` equal hypotheses of each document."""
        return Candidates(self.ids.expand(-1, beams, -1), self.log_probs.expand(-1, beams, -1))


@dataclass(frozen=True)
class Choice:
    """The words that the open hypotheses of one or all groups go on with, all (rows, beams).

    Attributes:
        ids: extended ids.
        parents: numbers of beams among all K.
        total: log-probability of the hypothesis, the word included.
        log_probs, generated, copied: of the word, in log space.
    """

    ids: Tensor
    parents: Tensor
    total: Tensor
    log_probs: Tensor
    generated: Tensor
    copied: Tensor

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All of it, in the order of its attributes."""
        return self.ids, self.parents, self.total, self.log_probs, self.generated, self.copied


def take_end(words: NextWords, columns: Columns) -> Tensor:
    """Log-probability, generated and copied mass of the end, (rows, K, 3); the end is no word from here on."""
    at_end = columns.end[:, None, None].expand(-1, words.total.shape[1], 1)
    end = torch.cat([part.gather(2, at_end) for part in (words.total, words.generated, words.copied)], dim=2)
    words.total.scatter_(2, at_end, -torch.inf)
    return end


def best_words(
    words: NextWords,
    candidates: Candidates,
    slots: slice,
    log_probs: Tensor,
    columns: Columns,
    chosen: Tensor | None,
    diversity: float,
) -> tuple[Choice, Tensor]:
    """The best continuations of a group's beams, and what they are ranked by.

    Args:
        words: the next words of all beams that have a column.
        candidates: the best of the others.
        slots: the group's beams.
        log_probs: their log-probabilities, (rows, k).
        columns: what the columns of `words` stand for.
        chosen: extended ids that earlier groups chose in this step, (rows, beams before), or None.
        diversity: what a word costs for each time that it is among them.
    """
    size = log_probs.shape[1]
    num_candidates, num_columns = candidates.ids.shape[2], columns.ids.shape[1]
    word_log_probs = torch.cat([candidates.log_probs[:, slots], words.total[:, slots]], dim=2)
    ranks = word_log_probs
    if chosen is not None and diversity:
        ids = torch.cat([candidates.ids[:, slots], columns.ids.unsqueeze(1).expand(-1, size, -1)], dim=2)
        ranks = word_log_probs - diversity * (ids.unsqueeze(3) == chosen[:, None, None, :]).sum(3)
    ranked, places = (ranks + log_probs.unsqueeze(2)).flatten(1).topk(size, dim=1)
    parents = places // (num_candidates + num_columns)
    place = places - parents * (num_candidates + num_columns)
    # only the few that are chosen are looked up: among the columns, or among the candidates
    has_column = place >= num_candidates
    column = (place - num_candidates).clamp(min=0)
    of_columns = parents * num_columns + column
    of_candidates = parents * num_candidates + place.clamp(max=num_candidates - 1)

    def in_column(values: Tensor) -> Tensor:
        return values[:, slots].flatten(1).gather(1, of_columns)

    def of_candidate(values: Tensor) -> Tensor:
        return values[:, slots].flatten(1).gather(1, of_candidates)

    of_words = word_log_probs.flatten(1).gather(1, places)
    choice = Choice(
        ids=torch.where(has_column, columns.ids.gather(1, column), of_candidate(candidates.ids)),
        parents=parents + slots.start,
        total=log_probs.gather(1, parents) + of_words,
        log_probs=of_words,
        generated=torch.where(has_column, in_column(words.generated), of_candidate(candidates.log_probs)),
        copied=in_column(words.copied).masked_fill(~has_column, -torch.inf),
    )
    return choice, ranked
