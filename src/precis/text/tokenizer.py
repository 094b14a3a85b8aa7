"""Words and punctuation with character offsets, and back again without loss.

A word is a maximal run of letters, marks, digits and underscores, with inner apostrophes. Whatever else is no
white space is a symbol; a run of one symbol, such as `...`, is one token. Only symbols carry joiner marks: on
the left where they touch what precedes, on the right where a word follows directly. White space has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice

import regex

JOINER = "\uffed"
_LONGEST_CACHED_CHUNK = 40  # characters; longer ones are rare, and would fill the memory
_MOST_CACHED_CHUNKS = 1 << 17
_CHUNK = re.compile(r"\S+")  # as str.split has it; `regex` does not count U+001C-U+001F as white space
_WORD = r"[\p{L}\p{M}\p{N}_]"
_PIECE = regex.compile(rf"(?P<word>{_WORD}+(?:['’]{_WORD}+)*)|(?P<symbol>.)(?P=symbol)*", regex.DOTALL)


@dataclass(frozen=True, slots=True)
class Token:
    """A token in the form that vocabularies hold; `raw[start:end]` is how it was written."""

    text: str
    start: int
    end: int


class Tokenizer:
    """Splits text into tokens; `detokenize(words(text))` is `text` up to white space and lower-casing."""

    def __init__(self, lowercase: bool) -> None:
        self.lowercase = lowercase
        self._pieces = _LOWERED if lowercase else _AS_WRITTEN

    def words(self, text: str, max_words: int | None = None) -> list[str]:
        """The texts of the first `max_words` tokens, or of all: several times as fast as `tokens`."""
        chunks = text.split()[:max_words]  # each has a token at least
        return list(islice(chain.from_iterable(map(self._pieces.__getitem__, chunks)), max_words))

    def tokens(self, text: str) -> list[Token]:
        """The tokens with the characters that they cover; together they cover all but white space."""
        tokens = []
        for chunk in _CHUNK.finditer(text):
            start = chunk.start()
            for match, form in zip(_PIECE.finditer(chunk[0]), self._pieces[chunk[0]], strict=True):
                tokens.append(Token(form, start + match.start(), start + match.end()))
        return tokens

    def detokenize(self, words: Iterable[str]) -> str:
        """Write tokens as text, with single spaces wherever no mark joins two of them."""
        parts: list[str] = []
        joined = True  # nothing precedes the first token
        for word in words:
            if not (joined or word.startswith(JOINER)):
                parts.append(" ")
            parts.append(surface(word))
            joined = word.endswith(JOINER)
        return "".join(parts)


def surface(word: str) -> str:
    """A token's text without its joiner marks."""
    if JOINER not in word:
        return word
    body = word.removeprefix(JOINER).removesuffix(JOINER)
    return body[1:-1] if JOINER in body else body


def with_surface(word: str, written: str) -> str:
    """The token `word` as it was written in a text, with its own joiner marks."""
    if JOINER not in word:
        return written
    body = f"<{written}>" if JOINER in written else written
    left = JOINER if word.startswith(JOINER) else ""
    right = JOINER if word.endswith(JOINER) else ""
    return left + body + right


def _split_chunk(chunk: str, lowercase: bool) -> tuple[str, ...]:
    words: list[str] = []
    matches = list(_PIECE.finditer(chunk))
    for number, match in enumerate(matches):
        text = match[0].lower() if lowercase else match[0]
        if match["word"] is None:
            if JOINER in text:
                # brackets around it tell a joiner that was written from one that is a mark
                text = f"<{text}>"
            touches_next_word = number + 1 < len(matches) and matches[number + 1]["word"] is not None
            text = (JOINER if number else "") + text + (JOINER if touches_next_word else "")
        words.append(text)
    return tuple(words)


class _Pieces(dict[str, tuple[str, ...]]):
    """The tokens of what stands between white space; frequent ones are split once."""

    def __init__(self, lowercase: bool) -> None:
        super().__init__()
        self._lowercase = lowercase

    def __missing__(self, chunk: str) -> tuple[str, ...]:
        words = _split_chunk(chunk, self._lowercase)
        if len(chunk) <= _LONGEST_CACHED_CHUNK:
            if len(self) >= _MOST_CACHED_CHUNKS:
                self.clear()
            self[chunk] = words
        return words


_LOWERED, _AS_WRITTEN = _Pieces(lowercase=True), _Pieces(lowercase=False)
