"""A corpus of any size, made of the sentences of a real one: nothing comes twice, and new words keep coming.

A document is half as many sentences as some real document has, each from another place. A summary is a real one
with two words of the document after it. From the size of the real corpus on, words are replaced by new identifiers,
made of two real words each, as often as Heaps' law says that a corpus of this size meets new words; as many again
are identifiers that came before. The first rows are the same whatever the number of rows.

    python benchmarks/scale_corpus.py FOLDER ROWS
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from precis.corpora.article import Article
from precis.corpora.docstrings import Wanted, read_docstrings
from precis.text.tokenizer import Tokenizer

FILE_ROWS = 50_000
_CHUNK_ROWS = 1_000
_GROUP_ROWS = 20
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n\s*\n")
_LONGEST_SENTENCE, _FEWEST_SENTENCES, _MOST_SENTENCES = (
    60,
    4,
    40,
)  # one long sentence would make near duplicates
_PLAIN = re.compile(r"[a-z]{3,10}")
_MULTIPLIERS = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F


def docstrings() -> list[Article]:
    """The real corpus: every docstring of the packages installed here, about 45,000."""
    return list(read_docstrings("precis", Wanted(3, 20, 12, 0.0)))


def write_corpus(folder: Path, num_rows: int, seed: int = 1) -> None:
    """Write JSON Lines files of `FILE_ROWS` rows."""
    folder.mkdir(parents=True)
    expansion = Expansion(docstrings(), seed)
    file = None
    for number, row in zip(range(num_rows), expansion.rows(), strict=False):
        if number % FILE_ROWS == 0:
            if file is not None:
                file.close()
            file = (folder / f"part-{number // FILE_ROWS:05d}.jsonl").open("w", encoding="utf-8")
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if file is not None:
        file.close()


class Expansion:
    """Rows without end, made of the sentences of `articles`."""

    def __init__(self, articles: Sequence[Article], seed: int) -> None:
        self._seed = seed
        documents = [_sentences(article.document or "") for article in articles]
        self._sentences = [sentence for document in documents for sentence in document]
        self._sizes = np.clip(
            [len(document) // 2 for document in documents], _FEWEST_SENTENCES, _MOST_SENTENCES
        )
        self._summaries = [(article.summary or "").rstrip(".") for article in articles]
        tokenizer = Tokenizer(lowercase=False)
        order = np.random.default_rng(seed).permutation(len(self._sentences))
        words = [word for number in order for word in tokenizer.words(" ".join(self._sentences[number]))]
        half = len(set(words[: len(words) // 2]))
        self._num_words, self._num_distinct = len(words), len(set(words))
        self._exponent = float(np.log(self._num_distinct / half) / np.log(2))
        self._parts = sorted({word for word in words if _PLAIN.fullmatch(word)})

    def rows(self) -> Iterator[dict[str, str]]:
        """One row after the other."""
        words_so_far = names_so_far = number = 0
        while True:
            generator = np.random.default_rng([self._seed, number])
            sizes = self._sizes[generator.integers(0, len(self._sizes), _CHUNK_ROWS)]
            chosen = np.split(generator.integers(0, len(self._sentences), sizes.sum()), np.cumsum(sizes)[:-1])
            summaries = generator.integers(0, len(self._summaries), _CHUNK_ROWS)
            for sentences, summary in zip(chosen, summaries, strict=True):
                words = [word for sentence in sentences for word in self._sentences[sentence]]
                num_new = generator.binomial(len(words), self._new_word_rate(words_so_far))
                for place in generator.integers(0, len(words), 2 * num_new):
                    if generator.random() < 0.5 or not names_so_far:
                        words[place] = self._name(names_so_far)
                        names_so_far += 1
                    else:
                        words[place] = self._name(int(names_so_far * generator.random() ** 2))
                words_so_far += len(words)
                place = int(generator.integers(0, len(words) - 1))
                yield {
                    "id": f"row/{number}",
                    "document": " ".join(words),
                    "summary": f"{self._summaries[summary]} {' '.join(words[place : place + 2])}",
                    "group": f"module/{number // _GROUP_ROWS}",
                }
                number += 1

    def _new_word_rate(self, words_so_far: int) -> float:
        """The derivative of Heaps' law, fitted to the real corpus; up to its size it has new words of its own."""
        if words_so_far < self._num_words:
            return 0.0
        grown = (words_so_far / self._num_words) ** (self._exponent - 1)
        return self._exponent * self._num_distinct / self._num_words * grown

    def _name(self, number: int) -> str:
        first, second = (
            self._parts[((number + 1) * multiplier % 2**64) * len(self._parts) >> 64]
            for multiplier in _MULTIPLIERS
        )
        return f"{first}_{second}" if number % 3 else f"{first.capitalize()}{second.capitalize()}"


def _sentences(document: str) -> list[list[str]]:
    cut = [sentence.split()[:_LONGEST_SENTENCE] for sentence in _SENTENCE_END.split(document)]
    return [sentence for sentence in cut if len(sentence) > 2]


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]), int(sys.argv[2]))
