"""Guesses what the columns of a stranger's file are, and which lengths suit it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from precis.corpora.columns import Columns, parse_time
from precis.errors import PrecisError
from precis.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from precis.corpora.firewall import Findings

_NAMES = {
    "document": r"document|text|body|article|content|dialogue|dialog|description|message|email_body|source|input|story",
    "summary": r"summary|headline|title|subject|subject_line|highlights|target|output|abstract|tldr|short|label",
    "id": r"id|uuid|guid|key|\w*_id|number|no|\w*_no|\w*_number",
    "references": r"references|summaries|annotations",
    "group": r"group|thread|thread_id|conversation|conversation_id|file|url|customer|customer_id|account",
    "time": r"time|timestamp|date|datetime|created|published|sent|opened|\w+_at",
}
_READ_SHARE = 0.95  # of what summaries take from documents, so much is to be within the words that are read
_MOST_LEAKAGE = 0.5  # of a held-out split; beyond it the splits themselves are wrong
_LONGEST_SUMMARY_SHARE = 0.7  # of the document: what is longer is no summary
_LARGEST_VOCABULARY = 8000  # twice as many brought nothing on 13,000 stories (docs/quality.md)
MINUTES = 60
"""Of training each model, that `precis init` plans for at most."""
_WORDS_PER_MINUTE = 1_500_000  # read by the pointer with these parameters, on one core (docs/quality.md)


@dataclass(frozen=True)
class Lengths:
    """In tokens: half, nineteen in twenty, ninety-nine in a hundred, and all of the texts have no more."""

    median: int
    p95: int
    p99: int
    longest: int


@dataclass(frozen=True)
class Proposal:
    """What `precis init` would put into params.yaml."""

    columns: Columns
    document: Lengths
    summary: Lengths
    source_max_length: int
    target_max_length: int
    vocabulary_size: int
    words_per_row: float
    """Of document and summary, as far as they are read."""

    def minutes(self, rows: int, epochs: int) -> float:
        """Of training a model on one core of a laptop; roughly, as cores differ."""
        return rows * self.words_per_row * epochs / _WORDS_PER_MINUTE

    def epochs(self, rows: int, most: int) -> int:
        """As many as there is time for, at least 1 and at most `most`.

        The learning rate falls over the epochs that are planned, so fewer epochs are better than a training that is
        stopped early.
        """
        return max(1, min(most, int(MINUTES / max(self.minutes(rows, 1), 1e-9))))


def propose(rows: Sequence[Mapping[str, Any]]) -> Proposal:
    """Guess from some rows; raises PrecisError when no two columns look like documents and summaries."""
    columns = guess_columns(rows)
    assert columns.summary is not None
    tokenizer = Tokenizer(lowercase=True)
    documents, summaries = (
        [tokenizer.words(str(row.get(name) or "")) for row in rows]
        for name in (columns.document, columns.summary)
    )
    document, summary = (_lengths([words for words in texts if words]) for texts in (documents, summaries))
    distinct = len({word for words in [*documents, *summaries] for word in words})
    source_max_length, target_max_length = (
        _source_max_length(documents, summaries, document.p95),
        summary.p99 + 1,
    )
    return Proposal(
        columns,
        document,
        summary,
        source_max_length,
        target_max_length,
        vocabulary_size=int(np.clip(_round_up(distinct // 3, 1000), 1000, _LARGEST_VOCABULARY)),
        words_per_row=_mean_length(documents, source_max_length) + _mean_length(summaries, target_max_length),
    )


def raised_limits(findings: Findings, checks: Any) -> dict[str, float]:
    """Higher limits for splits that share more documents than params.yaml allows, by the name of the check.

    The copies are set aside, so overlapping splits are no reason to stop: published corpora have them. But where
    half of a held-out split is elsewhere, it is no held-out split, and the limit stays.

    Args:
        findings: what the checks found.
        checks: `params.yaml: prepare.checks`.
    """
    raised = {}
    for check in ("leakage", "near_leakage"):
        share, limit = findings.share(check), getattr(checks, check)
        if limit.action == "quarantine" and limit.max_share < share < _MOST_LEAKAGE:
            raised[check] = math.ceil(20 * share + 0.2) / 20  # in twentieths, with a little room
    return raised


def guess_columns(rows: Sequence[Mapping[str, Any]]) -> Columns:
    """By their names first, and for documents and summaries by their lengths."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    words = {name: _mean_words(rows, name) for name in names}
    texts = [name for name in names if words[name] > 0]
    summary = _named("summary", [name for name in texts if words[name] < 200])
    document = _named("document", [name for name in texts if name != summary])
    if document is None and texts:
        document = max(
            (name for name in texts if name != summary), key=lambda name: words[name], default=None
        )
    if summary is None and document is not None:
        shorter = [
            name
            for name in texts
            if name != document and 2 <= words[name] <= _LONGEST_SUMMARY_SHARE * words[document]
        ]
        summary = max(shorter, key=lambda name: words[name], default=None)
    if document is None or summary is None:
        shown = ", ".join(f"`{name}` ({words[name]:.0f} words)" for name in names) or "none"
        raise PrecisError(f"no two columns look like documents and their summaries; columns there: {shown}")
    rest = [name for name in names if name not in (document, summary)]
    times = [name for name in rest if all(parse_time(row.get(name)) is not None for row in rows)]
    row_id = _named("id", [name for name in rest if _all_different(rows, name)])
    return Columns(
        document,
        summary,
        row_id,
        _named("references", [name for name in rest if any(isinstance(row.get(name), list) for row in rows)]),
        _named("group", [name for name in rest if name != row_id and not _all_different(rows, name)]),
        _named("time", [name for name in times if name != row_id]),
    )


def _named(kind: str, names: Sequence[str]) -> str | None:
    pattern = re.compile(_NAMES[kind], re.IGNORECASE)
    matching = [name for name in names if pattern.fullmatch(name.strip())]
    # the most telling name first
    order = _NAMES[kind].split("|")
    return min(
        matching, key=lambda name: order.index(name.lower()) if name.lower() in order else 99, default=None
    )


def _mean_words(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    texts = [row[name] for row in rows if isinstance(row.get(name), str)]
    if len(texts) < 0.5 * len(rows):
        return 0.0
    letters = sum(any(map(str.isalpha, text)) for text in texts)
    return float(np.mean([len(text.split()) for text in texts])) if letters > 0.5 * len(texts) else 0.0


def _all_different(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [str(row[name]) for row in rows if row.get(name) is not None]
    return len(values) == len(rows) == len(set(values))


def _lengths(texts: Sequence[Sequence[str]]) -> Lengths:
    sizes = np.array([len(words) for words in texts] or [0])
    median, p95, p99 = (int(np.percentile(sizes, share)) for share in (50, 95, 99))
    return Lengths(median, p95, p99, int(sizes.max()))


def _mean_length(texts: Sequence[Sequence[str]], most: int) -> float:
    return float(np.mean([min(len(words), most) for words in texts]))


def _source_max_length(
    documents: Sequence[Sequence[str]], summaries: Sequence[Sequence[str]], most: int
) -> int:
    """So many words that most of what summaries say has been met by then: training takes as long as they are."""
    places: list[int] = []
    for document, summary in zip(documents, summaries, strict=True):
        first: dict[str, int] = {}
        for place, word in enumerate(document):
            first.setdefault(word, place)
        # punctuation is met at once everywhere
        places += [first[word] for word in summary if word in first and any(map(str.isalnum, word))]
    needed = int(np.percentile(places, 100 * _READ_SHARE)) + 1 if places else most
    return int(np.clip(_round_up(min(needed, most), 10), 20, 400))


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step
