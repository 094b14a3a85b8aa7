"""From one row of somebody's file to an Article; what cannot be used becomes the row's problem."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from precis.corpora.article import Article
from precis.errors import PrecisError

_MOST_BITS = 1024  # of a whole number that is an id


@dataclass(frozen=True)
class Columns:
    """Which column of the corpus holds what; None where the corpus has no such column.

    If summary and references are the same column, a list, the first one in it is the summary. With `sentences`, the
    documents are lists of sentences, which are joined by line feeds.
    """

    document: str
    summary: str | None = None
    id: str | None = None
    references: str | None = None
    group: str | None = None
    time: str | None = None
    sentences: bool = False

    def names(self) -> dict[str, str]:
        """The mapped columns: our name to the corpus's."""
        mapped = {
            "document": self.document,
            "summary": self.summary,
            "id": self.id,
            "references": self.references,
            "group": self.group,
            "time": self.time,
        }
        return {ours: theirs for ours, theirs in mapped.items() if theirs is not None}

    def check(self, found: Iterable[str], where: str, everywhere: bool = False) -> None:
        """Compare with the columns that are there; raises PrecisError for the ones that are not.

        Args:
            found: the columns that one file has, or all files together.
            where: what to call the file or the files.
            everywhere: whether `found` is of all files: one alone may lack references.
        """
        found = sorted(set(found))
        problems = []
        for ours, theirs in self.names().items():
            if theirs in found or (ours == "references" and not everywhere):
                continue
            close = difflib.get_close_matches(theirs, found, n=1, cutoff=0.5)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            problems.append(f"  corpus.columns.{ours}: {where} has no column `{theirs}`{hint}")
        if problems:
            shown = ", ".join(f"`{name}`" for name in found[:30]) or "none"
            optional = "A corpus without ids, references, groups or times has null there."
            raise PrecisError(
                "\n".join(["the columns do not fit:", *problems, f"  columns there: {shown}", optional])
            )

    def article(self, row: Mapping[str, Any], fallback_id: str) -> Article:
        """Take the mapped columns out of a row; never raises, but tells of a problem in the article."""
        article = Article(id=None, document=None, summary=None)
        problems: list[str] = []
        article.id = fallback_id if self.id is None else _text(row, self.id, problems, numbers=True)
        article.document = _text(
            _joined(row, self.document) if self.sentences else row, self.document, problems
        )
        if self.summary is not None:
            summaries_are_lists = self.references == self.summary
            article.summary = _text(
                _first(row, self.summary) if summaries_are_lists else row, self.summary, problems
            )
        if self.references is not None:
            article.references = _texts(row, self.references, problems)
        if self.group is not None:
            article.group = _text(row, self.group, problems, numbers=True)
        if self.time is not None:
            article.time = _time(row.get(self.time), self.time, problems)
        if problems:
            article.problem = problems[0]
        return article


def _joined(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The row with one text in place of a list of sentences."""
    value = row.get(name)
    if isinstance(value, list) and value and all(isinstance(sentence, str) for sentence in value):
        return {name: "\n".join(value)}
    return row


def _first(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = row.get(name)
    return {name: value[0]} if isinstance(value, list) and value else row


def _text(row: Mapping[str, Any], name: str, problems: list[str], numbers: bool = False) -> str | None:
    value = row.get(name)
    if value is None:
        problems.append(
            f"missing_field: no `{name}`" if name not in row else f"missing_field: `{name}` is null"
        )
        return None
    if numbers and isinstance(value, int) and not isinstance(value, bool) and not _is_long(value):
        return str(value)
    if not isinstance(value, str):
        problems.append(f"wrong_type: `{name}` is {_kind(value)}, expected text")
        return None
    return storable(value, name, problems)


def _texts(row: Mapping[str, Any], name: str, problems: list[str]) -> list[str] | None:
    value = row.get(name)
    if value is None:
        return None  # some rows, or whole splits, have one summary only
    if not isinstance(value, list | tuple):
        problems.append(f"wrong_type: `{name}` is {_kind(value)}, expected a list of texts")
        return None
    texts = []
    for item in value:
        if not isinstance(item, str):
            problems.append(f"wrong_type: `{name}` holds {_kind(item)}, expected texts")
            return None
        texts.append(storable(item, name, problems))
    return texts


def storable(text: str, name: str, problems: list[str]) -> str:
    """The text itself, if UTF-8 has it; otherwise with marks for what it has not, and a problem."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError as error:
        character = ord(text[error.start])
        # what `surrogateescape` makes of undecodable bytes
        if 0xDC80 <= character <= 0xDCFF:
            problems.append(f"invalid_utf8: byte 0x{character - 0xDC00:02x} in `{name}`")
        else:
            problems.append(f"lone_surrogate: U+{character:04X} in `{name}`")
        return text.encode("utf-8", "replace").decode()


def _time(value: Any, name: str, problems: list[str]) -> float | None:
    moment = parse_time(value)
    if moment is None:
        problems.append(
            f"wrong_type: `{name}` is {_start(value)!r}, expected a time such as 2026-11-22T09:00"
        )
    return moment


def _start(value: Any) -> str:
    # a number of more than 4,300 digits cannot be written out
    return f"a number of {value.bit_length()} bits" if _is_long(value) else str(value)[:40]


def _is_long(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > _MOST_BITS


def parse_time(value: Any) -> float | None:
    """Seconds since 1970, of a number, a date or an ISO 8601 text (UTC unless it says otherwise); None of others."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        match value:
            case bool():
                return None
            case int() | float():
                return float(value) if math.isfinite(value) else None
            case datetime():
                return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
            case date():
                return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):  # no time, or one that no calendar has
        return None
    return None


def _kind(value: Any) -> str:
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case list() | tuple():
            return "a list"
        case dict():
            return "an object"
        case bytes():
            return "binary data"
        case _:
            return f"of type {type(value).__name__}"
