"""The words that a model knows, by number."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from precis.errors import PrecisError
from precis.files import atomic_path, read_ordinary
from precis.text.tokenizer import surface

PAD_ID, UNK_ID, BOS_ID, EOS_ID = range(4)
SPECIAL_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")  # no tokenizer makes these: `<` and `pad` are two tokens

_LARGEST_FILE = 500_000_000  # bytes; a million words take 30 MB
_COUNT = re.compile(r"[0-9]{1,18}")  # no text has more words, and no digit of another script is written


class Vocabulary:
    """Words with their ids, counts and usual written forms; ids 0 to 3 are the special tokens.

    Args:
        words: from id 4 on.
        counts: how often each occurs in the training text.
        surfaces: how each is usually written.
        summary_counts: how often each occurs in the training summaries; None where that is `counts`, or nobody asks.
    """

    def __init__(
        self,
        words: Iterable[str],
        counts: Iterable[int],
        surfaces: Iterable[str],
        summary_counts: Iterable[int] | None = None,
    ) -> None:
        self._words = [*SPECIAL_TOKENS, *words]
        self._counts = [0] * len(SPECIAL_TOKENS) + list(counts)
        self._surfaces = [*SPECIAL_TOKENS, *surfaces]
        self._has_summary_counts = summary_counts is not None
        self._summary_counts = (
            self._counts if summary_counts is None else [0] * len(SPECIAL_TOKENS) + list(summary_counts)
        )
        self._ids = _Ids((word, id_) for id_, word in enumerate(self._words))
        assert len(self._words) == len(self._counts) == len(self._surfaces) == len(self._ids)

    @classmethod
    def build(
        cls,
        counts: Mapping[str, int],
        size: int,
        min_count: int,
        surfaces: Mapping[str, str] | None = None,
        summary_counts: Mapping[str, int] | None = None,
    ) -> Vocabulary:
        """Keep the most frequent words.

        Args:
            counts: how often each word occurs in the training text.
            size: the most words, special tokens included.
            min_count: rarer words are left out.
            surfaces: how each word is usually written; without it, as it is, less its joiner marks.
            summary_counts: how often words occur in the summaries, if `counts` has documents, too.
        """
        # by count, then by spelling: the same text gives the same ids
        ranked = sorted(
            (item for item in counts.items() if item[1] >= min_count), key=lambda item: (-item[1], item[0])
        )
        kept = ranked[: max(0, size - len(SPECIAL_TOKENS))]
        return cls(
            words=[word for word, _ in kept],
            counts=[count for _, count in kept],
            surfaces=[surface(word) if surfaces is None else surfaces[word] for word, _ in kept],
            summary_counts=None if summary_counts is None else [summary_counts.get(w, 0) for w, _ in kept],
        )

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def id(self, word: str) -> int:
        """The word's id, UNK_ID if it has none."""
        return self._ids[word]

    def ids(self, words: Iterable[str]) -> list[int]:
        """Every word's id, UNK_ID where it has none."""
        return list(map(self._ids.__getitem__, words))

    def word(self, id_: int) -> str:
        """The word of an id."""
        return self._words[id_]

    def count(self, id_: int) -> int:
        """How often the word occurs in the training text; 0 for special tokens."""
        return self._counts[id_]

    def summary_count(self, id_: int) -> int:
        """How often the word occurs in the training summaries; 0 for special tokens."""
        return self._summary_counts[id_]

    def surface(self, id_: int) -> str:
        """How the word is usually written, without joiner marks."""
        return self._surfaces[id_]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one line per word, in the order of ids: word, count, written form, count in summaries, with tabs.

        The last is left out where it is the same as the count, or not known.
        """
        columns: list[Iterable[object]] = [self._words, self._counts, self._surfaces]
        if self._has_summary_counts:
            columns.append(self._summary_counts)
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in zip(*columns, strict=True):
                file.write("\t".join(map(str, row)) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Read what `save` wrote; raises PrecisError when the file is missing or something else."""
        path = Path(path)
        try:
            # not read_text, which would take a lone carriage return for the end of a line
            text = read_ordinary(path, _LARGEST_FILE).decode("utf-8")
        except FileNotFoundError as error:
            raise PrecisError(f"{path} not found: run `dvc repro vocabulary` first") from error
        except UnicodeDecodeError as error:
            raise PrecisError(
                f"{path} is no vocabulary: not UTF-8 text; run `dvc repro vocabulary`"
            ) from error
        rows = [line.split("\t") for line in text.split("\n")[:-1]]
        widths = {len(row) for row in rows}
        well_formed = (
            text.endswith("\n")
            and widths in ({3}, {4})
            and all(_COUNT.fullmatch(number) for row in rows for number in (row[1], *row[3:]))
        )
        if not well_formed or tuple(row[0] for row in rows[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise PrecisError(
                f"{path} is no vocabulary: expected lines of a word, its count, its written form and, if it is "
                f"shared, its count in summaries, with tabs between them, first {' '.join(SPECIAL_TOKENS)}; run "
                "`dvc repro vocabulary`"
            )
        rows = rows[len(SPECIAL_TOKENS) :]
        if len({row[0] for row in rows}.union(SPECIAL_TOKENS)) != len(rows) + len(SPECIAL_TOKENS):
            raise PrecisError(f"{path} is no vocabulary: it has a word twice; run `dvc repro vocabulary`")
        return cls(
            [row[0] for row in rows],
            [int(row[1]) for row in rows],
            [row[2] for row in rows],
            [int(row[3]) for row in rows] if widths == {4} else None,
        )


class _Ids(dict[str, int]):
    """Ids by word, UNK_ID for all others."""

    def __missing__(self, word: str) -> int:
        return UNK_ID


def fold_case(written: Mapping[str, int], lowercase: bool) -> tuple[dict[str, int], dict[str, str]]:
    """Turn counts of words as written into counts of words, and each word's most frequent written form.

    Args:
        written: counts of the tokens of a `Tokenizer(lowercase=False)`.
        lowercase: whether the words of the vocabulary are lower-cased.
    """
    counts: Counter[str] = Counter()
    best: dict[str, tuple[int, str]] = {}
    for form, count in written.items():
        word = form.lower() if lowercase else form
        counts[word] += count
        # the more frequent form; of two equally frequent ones, the first in code point order
        candidate = (-count, surface(form))
        if word not in best or candidate < best[word]:
            best[word] = candidate
    return dict(counts), {word: form for word, (_, form) in best.items()}
