"""Vocabularies out of a training split in numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from precis.corpora.numbered_words import Lexicon, NumberedSplit
from precis.text.tokenizer import surface
from precis.text.vocabulary import Vocabulary


class WordCounts:
    """How often words stand in documents and summaries, and how they are written there."""

    def __init__(self, lexicon: Lexicon, train: NumberedSplit) -> None:
        self._words, self._forms = lexicon.words, lexicon.forms
        self._word_of_form = lexicon.word_of_form()
        # whoever came later, in another split, has the count 0
        self._document_forms, self._summary_forms = (
            np.pad(counts, (0, len(self._forms) - len(counts)))
            for counts in (train.document_counts, train.summary_counts)
        )
        self._documents, self._summaries = map(self._of_words, (self._document_forms, self._summary_forms))

    def shared(self, size: int, min_count: int) -> Vocabulary:
        """The vocabulary of documents and summaries together; see `Vocabulary.build`."""
        counts = self._documents + self._summaries
        chosen = _highest(counts, size, min_count)
        # as it is written in summaries, if it is in any
        surfaces = self._surfaces(chosen, self._document_forms) | self._surfaces(chosen, self._summary_forms)
        return Vocabulary.build(
            self._named(chosen, counts), size, min_count, surfaces, self._named(chosen, self._summaries)
        )

    def of_documents(self, size: int, min_count: int) -> Vocabulary:
        """The vocabulary of documents; see `Vocabulary.build`."""
        return self._vocabulary(self._documents, self._document_forms, size, min_count)

    def of_summaries(self, size: int, min_count: int) -> Vocabulary:
        """The vocabulary of summaries; see `Vocabulary.build`."""
        return self._vocabulary(self._summaries, self._summary_forms, size, min_count)

    def ranked(self, shared: bool, min_count: int) -> NDArray[np.int64]:
        """Numbers of all words that a target vocabulary may have, in the order in which it takes them."""
        counts = self._documents + self._summaries if shared else self._summaries
        there = np.flatnonzero(counts >= max(1, min_count))
        by_spelling = np.array(sorted(there.tolist(), key=self._words.__getitem__), dtype=np.int64)
        return by_spelling[np.argsort(-counts[by_spelling], kind="stable")]

    def _vocabulary(
        self, counts: NDArray[np.int64], form_counts: NDArray[np.int64], size: int, min_count: int
    ) -> Vocabulary:
        chosen = _highest(counts, size, min_count)
        surfaces = self._surfaces(chosen, form_counts)
        return Vocabulary.build(self._named(chosen, counts), size, min_count, surfaces)

    def _of_words(self, form_counts: NDArray[np.int64]) -> NDArray[np.int64]:
        counts = np.zeros(len(self._words), dtype=np.int64)
        np.add.at(counts, self._word_of_form, form_counts)
        return counts

    def _named(self, numbers: NDArray[np.int64], counts: NDArray[np.int64]) -> dict[str, int]:
        return {self._words[number]: int(counts[number]) for number in numbers if counts[number]}

    def _surfaces(self, chosen: NDArray[np.int64], form_counts: NDArray[np.int64]) -> dict[str, str]:
        """How words are usually written: of two equally frequent forms, the first in code point order."""
        wanted = np.zeros(len(self._words), dtype=bool)
        wanted[chosen] = True
        best: dict[str, tuple[int, str]] = {}
        for form in np.flatnonzero(wanted[self._word_of_form] & (form_counts > 0)):
            word = self._words[self._word_of_form[form]]
            candidate = (-int(form_counts[form]), surface(self._forms[form]))
            if word not in best or candidate < best[word]:
                best[word] = candidate
        return {word: form for word, (_, form) in best.items()}


def _highest(counts: NDArray[np.int64], size: int, min_count: int) -> NDArray[np.int64]:
    """The most frequent words, more than a vocabulary of this size takes where several are as frequent."""
    there = np.flatnonzero(counts >= max(1, min_count))
    if len(there) > size:
        there = there[counts[there] >= np.partition(counts[there], -size)[-size]]
    return there
