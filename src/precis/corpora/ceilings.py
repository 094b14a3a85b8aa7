"""What a vocabulary lets a model write: the best that any training could reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Reach:
    """Shares of the summaries' words; generated, copied and neither add up to 1."""

    vocabulary_size: int
    generated: float
    """In the target vocabulary."""
    copied_only: float
    """Outside it, but in the part of the document that the model reads."""
    neither: float

    @property
    def copyable_share_of_oovs(self) -> float:
        """Of the words outside the vocabulary, how many can be copied."""
        return self.copied_only / (self.copied_only + self.neither) if self.generated < 1 else 0.0


class ReachCounter:
    """Counts, word by word, from which vocabulary size on a summary can be written."""

    def __init__(self, max_rank: int) -> None:
        """Begin with nothing counted.

        Args:
            max_rank: how many places vocabularies are filled from, the most frequent word first, at place 0; it is
                also the rank of every word that has no such place.
        """
        self._in_source = np.zeros(max_rank + 1, dtype=np.int64)
        self._elsewhere = np.zeros(max_rank + 1, dtype=np.int64)

    def add(self, ranks: NDArray[np.int64], in_source: NDArray[np.bool_]) -> None:
        """Count words of summaries: the rank of each, and whether its document, as far as it is read, has it."""
        np.add.at(self._in_source, ranks[in_source], 1)
        np.add.at(self._elsewhere, ranks[~in_source], 1)

    def reach(self, num_words: int, vocabulary_size: int) -> Reach:
        """The shares for a vocabulary of the first `num_words` ranks."""
        total = int(self._in_source.sum() + self._elsewhere.sum()) or 1
        copied = int(self._in_source[num_words:].sum())
        neither = int(self._elsewhere[num_words:].sum())
        generated = (total - copied - neither) / total
        return Reach(vocabulary_size, generated, copied / total, neither / total)


def in_words(split: str, reach: Reach) -> str:
    """What the shares mean, for a reader who is new to this."""
    return (
        f"With {reach.vocabulary_size:,} words a model that only generates cannot write "
        f"{1 - reach.generated:.1%} of the words of the {split} summaries; "
        f"one that copies can take {reach.copyable_share_of_oovs:.0%} of those from the document."
    )
