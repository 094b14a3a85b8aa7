"""What can be said of rows without knowing any others: the part of the checks that may run anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from precis.corpora.article import RAW_SCHEMA, stable_hash
from precis.corpora.checks import (
    Problem,
    TextLimits,
    check_content,
    check_id,
    key_words,
    normalise,
)
from precis.corpora.near_duplicates import NearDuplicateSearch

_PROBLEM = pa.struct([("reason", pa.string()), ("detail", pa.string())])
EXAMINED_SCHEMA = pa.schema(
    [
        *RAW_SCHEMA,
        pa.field("unusable", _PROBLEM),
        pa.field("empty", _PROBLEM),
        pa.field("document_key", pa.int64()),
        pa.field("summary_key", pa.int64()),
        pa.field("document_words", pa.int32(), nullable=False),
        pa.field("summary_words", pa.int32(), nullable=False),
        pa.field("problems", pa.list_(_PROBLEM), nullable=False),
        pa.field("digest", pa.binary(), nullable=False),
    ]
)
"""Rows with what was found: texts are normalised where there are any, `references` begin with the summary.

`unusable`: not even its id or its texts can be read; `empty`: a text has no word; `problems`: all others, the
most serious first. The keys are equal where the words are, `digest` is the document's MinHash digest.
"""


@dataclass(frozen=True)
class Examination:
    """A function of a batch of raw rows alone.

    Attributes:
        limits: lengths past which a text is no article.
        search: how near duplicates are found; None computes no digests.
    """

    limits: TextLimits
    search: NearDuplicateSearch | None

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give rows of `EXAMINED_SCHEMA` for rows of `RAW_SCHEMA`, in their order."""
        names = RAW_SCHEMA.names
        columns = [batch.column(name).to_pylist() for name in names]
        words: list[list[str]] = []
        rows = [
            self._examine(dict(zip(names, values, strict=True)), words)
            for values in zip(*columns, strict=True)
        ]
        digests = self._digests(words)
        for row, digest in zip(rows, digests, strict=True):
            row["digest"] = digest
        arrays = [pa.array([row[field.name] for row in rows], field.type) for field in EXAMINED_SCHEMA]
        return pa.RecordBatch.from_arrays(arrays, schema=EXAMINED_SCHEMA)

    def _examine(self, row: dict[str, Any], words: list[list[str]]) -> dict[str, Any]:
        row |= {"unusable": None, "empty": None, "document_key": None, "summary_key": None}
        row |= {"document_words": 0, "summary_words": 0, "problems": []}
        words.append([])
        if row["problem"] is not None:
            reason, _, detail = row["problem"].partition(": ")
            row["unusable"] = _plain(Problem(reason, detail))
            return row
        if problem := check_id(row["id"]):
            row["unusable"] = _plain(problem)
            return row
        document, summary = normalise(row["document"]), normalise(row["summary"])
        document_words, summary_words = key_words(document), key_words(summary)
        if not document_words:
            row["empty"] = _plain(Problem("empty_document", _shown(document)))
            return row
        row["document_key"] = _key(document_words)
        if not summary_words:
            row["empty"] = _plain(Problem("empty_summary", _shown(summary)))
            return row
        words[-1] = document_words
        references = [normalise(text) for text in row["references"] or ()]
        problems = check_content(document, summary, document_words, summary_words, self.limits)
        row |= {
            "document": document,
            "summary": summary,
            "references": [summary, *(text for text in references if text and text != summary)],
            "summary_key": _key(summary_words),
            "document_words": len(document_words),
            "summary_words": len(summary_words),
            "problems": [_plain(problem) for problem in problems],
        }
        return row

    def _digests(self, words: list[list[str]]) -> list[bytes]:
        if self.search is None:
            return [b""] * len(words)
        return [row.tobytes() for row in self.search.digests(words)]


def _key(words: list[str]) -> int:
    """64 bits, as Arrow's signed numbers."""
    return int(np.uint64(stable_hash(" ".join(words), "words")).astype(np.int64))


def _plain(problem: Problem) -> dict[str, str]:
    return problem._asdict()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
