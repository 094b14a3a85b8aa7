"""A corpus as numbers of words: its texts are split once, wherever that is, and then counted as often as need be.

A form is a word as it is written, a word is what vocabularies have: the form itself, or in lower case. The numbers of
all texts are in a file; memory has a few numbers for each row, and every different form and word once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from precis.corpora.article import stable_hash
from precis.corpora.character_shares import CHARACTER_SHARES, character_shares
from precis.text.tokenizer import Tokenizer

COLUMNS = ["document", "summary", "group"]


class Texts(NamedTuple):
    """Several texts as numbers, one after the other."""

    numbers: NDArray[np.int32]
    lengths: NDArray[np.int64]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The text that each number is of."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def beginnings(self, max_length: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The rows and the numbers of what is left when texts end after `max_length` words."""
        starts = np.cumsum(self.lengths) - self.lengths
        kept = np.arange(len(self.numbers)) - np.repeat(starts, self.lengths) < max_length
        return self.rows[kept], self.numbers[kept]


@dataclass(frozen=True)
class SplitRows:
    """Some rows, split into forms, which are numbered by their places in `forms`.

    Attributes:
        forms: all different ones.
        documents, summaries: the texts.
        shares: what character_shares says of each document, (N, 4).
        groups: 64 bits of each row's group.
        grouped: whether it has one.
    """

    forms: list[str]
    documents: Texts
    summaries: Texts
    shares: NDArray[np.float64]
    groups: NDArray[np.int64]
    grouped: NDArray[np.bool_]


def split_rows(batch: pa.RecordBatch) -> SplitRows:
    """Split the texts of rows with COLUMNS: a function of these rows alone."""
    documents = batch.column("document").to_pylist()
    groups = batch.column("group").to_pylist()
    forms = _Numbers()
    document_texts = _split(documents, forms)
    summary_texts = _split(batch.column("summary").to_pylist(), forms)
    hashes = [0 if group is None else stable_hash(group, "owner") for group in groups]
    return SplitRows(
        list(forms),
        document_texts,
        summary_texts,
        np.array([character_shares(text) for text in documents]).reshape(-1, len(CHARACTER_SHARES)),
        np.array(hashes, dtype=np.uint64).astype(np.int64),
        np.array([group is not None for group in groups], dtype=bool),
    )


def _split(texts: list[str], forms: _Numbers) -> Texts:
    split = list(map(Tokenizer(lowercase=False).words, texts))
    lengths = np.fromiter(map(len, split), np.int64, len(split))
    numbers = map(forms.__getitem__, chain.from_iterable(split))
    return Texts(np.fromiter(numbers, np.int32, int(lengths.sum())), lengths)


class _Numbers(dict[str, int]):
    """Numbers of strings, in the order in which they are asked for."""

    def __missing__(self, key: str) -> int:
        self[key] = number = len(self)
        return number


class Lexicon:
    """Numbers of all forms and words of a corpus, in the order in which they are met."""

    def __init__(self, lowercase: bool) -> None:
        self._lowercase = lowercase
        self._forms = _Numbers()
        self._words = _Numbers()
        self._word_of_form = array("i")

    @property
    def forms(self) -> list[str]:
        """By number."""
        return list(self._forms)

    @property
    def words(self) -> list[str]:
        """By number."""
        return list(self._words)

    @property
    def num_forms(self) -> int:
        """How many there are so far."""
        return len(self._forms)

    @property
    def num_words(self) -> int:
        """How many there are so far."""
        return len(self._words)

    def word_of_form(self) -> NDArray[np.int32]:
        """The word of each form that there is so far."""
        return np.array(self._word_of_form, dtype=np.int32)

    def number(self, forms: Iterable[str]) -> NDArray[np.int32]:
        """The numbers of forms; those that are new get the next ones."""
        return np.fromiter(map(self._number, forms), np.int32)

    def _number(self, form: str) -> int:
        number = self._forms.get(form)
        if number is None:
            word = form.lower() if self._lowercase else form
            self._word_of_form.append(self._words[form if word == form else word])  # one string for both
            number = self._forms[form]
        return number


class NumberedRows(NamedTuple):
    """Some rows of a split; texts are numbers of forms."""

    documents: Texts
    summaries: Texts
    shares: NDArray[np.float64]
    owners: NDArray[np.int64]


class NumberedSplit:
    """The rows of a split as numbers, in an open file.

    Args:
        rows: its rows, split.
        lexicon: what numbers their forms; those that it does not have are added.
        file: empty, to write and to read.
    """

    def __init__(self, rows: Iterable[SplitRows], lexicon: Lexicon, file: IO[bytes]) -> None:
        self._file = file
        self._chunks: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self._shares: list[NDArray[np.float64]] = []
        self._owners: list[NDArray[np.int64]] = []
        self.num_rows = 0
        document_counts, summary_counts = _Counts(), _Counts()
        for some in rows:
            numbers = lexicon.number(some.forms)
            for texts, counts in ((some.documents, document_counts), (some.summaries, summary_counts)):
                self._file.write(numbers[texts.numbers].tobytes())
                counts.add(numbers, np.bincount(texts.numbers, minlength=len(numbers)))
            self._chunks.append((some.documents.lengths, some.summaries.lengths))
            # a document without group is a group of its own
            places = np.arange(self.num_rows, self.num_rows + len(some.groups))
            self._owners.append(np.where(some.grouped, some.groups, places))
            self._shares.append(some.shares)
            self.num_rows += len(some.groups)
        self.document_counts = document_counts.values(lexicon.num_forms)
        """How often each form stands in the documents."""
        self.summary_counts = summary_counts.values(lexicon.num_forms)

    def __iter__(self) -> Iterator[NumberedRows]:
        self._file.seek(0)
        for lengths, shares, owners in zip(self._chunks, self._shares, self._owners, strict=True):
            yield NumberedRows(self._read(lengths[0]), self._read(lengths[1]), shares, owners)

    def _read(self, lengths: NDArray[np.int64]) -> Texts:
        data = self._file.read(4 * int(lengths.sum()))
        return Texts(np.frombuffer(data, dtype=np.int32), lengths)


class _Counts:
    """Counts of what has ever higher numbers."""

    def __init__(self) -> None:
        self._values = np.zeros(1 << 16, dtype=np.int64)

    def add(self, numbers: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
        """Count some numbers, each different from the others."""
        needed = int(numbers.max(initial=-1)) + 1
        if needed > len(self._values):
            more = np.zeros(max(needed, 2 * len(self._values)) - len(self._values), dtype=np.int64)
            self._values = np.concatenate([self._values, more])
        self._values[numbers] += counts

    def values(self, size: int) -> NDArray[np.int64]:
        """The counts of the numbers below `size`."""
        return np.concatenate([self._values, np.zeros(max(0, size - len(self._values)), dtype=np.int64)])[
            :size
        ]
