"""The id of an answer: which model wrote what about which document, with which settings.

It is made of digests, so no record has to be kept for it: `precis trace` finds the version by the first of them,
and whoever has the document can show that this is the one. The same question to the same model has the same
id: it names an answer, not a request. Neither document nor summary can be read from it, but who guesses a
document can check the guess.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_MODEL_DIGITS, _DOCUMENT_DIGITS, _SUMMARY_DIGITS, _SETTINGS_DIGITS = 12, 16, 8, 8
_FORM = re.compile(
    rf"sum-([0-9a-f]{{{_MODEL_DIGITS}}})-([0-9a-f]{{{_DOCUMENT_DIGITS}}})"
    rf"-([0-9a-f]{{{_SUMMARY_DIGITS}}})-([0-9a-f]{{{_SETTINGS_DIGITS}}})"
)


@dataclass(frozen=True)
class AnswerId:
    """The first hexadecimal digits of four SHA-256.

    Attributes:
        model: of the registered files, as the registry's `precis.digest`.
        document: of its UTF-8 bytes, as they were given.
        summary: of its UTF-8 bytes.
        settings: of the decoding parameters that were used.
    """

    model: str
    document: str
    summary: str
    settings: str

    @classmethod
    def of(cls, model_digest: str, document: str, summary: str, settings: Mapping[str, Any]) -> Self:
        """The id of an answer."""
        return cls(
            model_digest[:_MODEL_DIGITS],
            _digest(document)[:_DOCUMENT_DIGITS],
            _digest(summary)[:_SUMMARY_DIGITS],
            settings_digest(settings),
        )

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The parts of an id; None if this is none."""
        match = _FORM.fullmatch(text.strip())
        return cls(*match.groups()) if match else None

    def __str__(self) -> str:
        return f"sum-{self.model}-{self.document}-{self.summary}-{self.settings}"

    def is_of_document(self, document: str) -> bool:
        """Whether the answer is about exactly this text."""
        return _digest(document).startswith(self.document)

    def is_summary(self, summary: str) -> bool:
        """Whether the answer was exactly this text."""
        return _digest(summary).startswith(self.summary)


def settings_digest(settings: Mapping[str, Any]) -> str:
    """The part of an id that stands for decoding parameters."""
    return _digest(json.dumps(dict(settings), sort_keys=True))[:_SETTINGS_DIGITS]


def _digest(text: str) -> str:
    # half of a surrogate pair is no Unicode, and arrives in JSON all the same
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
