"""Numbers for the words of one document that the target vocabulary lacks, so that they can be copied.

A source OOV is a source word outside the target vocabulary, which has V words. Those of one document have the
extended ids V, V+1, … in order of first appearance (See et al., 2017, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from precis.text.vocabulary import UNK_ID, Vocabulary


def extend_source(words: Sequence[str], vocabulary: Vocabulary) -> tuple[list[int], list[str]]:
    """The source's extended ids, and its source OOVs in the order of their ids."""
    extended_ids = vocabulary.ids(words)
    size = len(vocabulary)
    numbers: dict[str, int] = {}
    for position, id_ in enumerate(extended_ids):
        if id_ == UNK_ID:
            extended_ids[position] = numbers.setdefault(words[position], size + len(numbers))
    return extended_ids, list(numbers)


def extend_target(words: Sequence[str], vocabulary: Vocabulary, source_oovs: Sequence[str]) -> list[int]:
    """The target's extended ids; UNK_ID where neither the vocabulary nor the source has the word."""
    extended_ids = vocabulary.ids(words)
    size = len(vocabulary)
    for position, id_ in enumerate(extended_ids):
        if id_ == UNK_ID and words[position] in source_oovs:
            extended_ids[position] = size + source_oovs.index(words[position])
    return extended_ids


def words_of(ids: Sequence[int], vocabulary: Vocabulary, source_oovs: Sequence[str]) -> list[str]:
    """The words that extended ids stand for: `extend_source` the other way."""
    size = len(vocabulary)
    return [vocabulary.word(id_) if id_ < size else source_oovs[id_ - size] for id_ in ids]
