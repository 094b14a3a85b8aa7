"""Documents beside their summaries, cut into pieces that a template colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LONGEST_DOCUMENT = 4000  # characters that a page shows of a document


@dataclass(frozen=True)
class Piece:
    """A word of a summary, or what stands between two words.

    Attributes:
        text: as it is in the summary.
        origin: copied, generated, unsupported, or None between words and where origins are not known.
        title: what a reader sees when pointing at it.
        sources: where it came from in the document, `start-end:weight` with spaces between.
    """

    text: str
    origin: str | None = None
    title: str = ""
    sources: str = ""


@dataclass(frozen=True)
class Reading:
    """One system's summary of a document."""

    system: str
    pieces: list[Piece]
    rouge: Mapping[str, float]


@dataclass(frozen=True)
class DocumentReading:
    """A document with its references and what the systems made of it."""

    id: str
    why: str
    document: str
    is_cut: bool
    references: Sequence[str]
    readings: list[Reading]


def pieces(row: Mapping[str, Any]) -> list[Piece]:
    """The summary of a row of summaries.jsonl, word by word."""
    text = row["summary"]
    if "tokens" not in row:
        return [Piece(text)]
    found = []
    end = 0
    for token in row["tokens"]:
        if token["start"] > end:
            found.append(Piece(text[end : token["start"]]))
        found.append(Piece(token["text"], token["origin"], _title(token), sources=_sources(token)))
        end = token["end"]
    return found


def read_document(
    row: Mapping[str, Any], why: str, document: str, of_systems: Sequence[tuple[str, Mapping[str, Any]]]
) -> DocumentReading:
    """Put a document together for reading."""
    return DocumentReading(
        id=row["id"],
        why=why,
        document=document[:LONGEST_DOCUMENT],
        is_cut=len(document) > LONGEST_DOCUMENT,
        references=row.get("references", []),
        readings=[Reading(name, pieces(of_system), of_system["rouge"]) for name, of_system in of_systems],
    )


def worth_reading(scores: NDArray[np.float64], number: int) -> list[tuple[int, str]]:
    """Documents to read first: the lowest scores, the highest, and typical ones; `number` of each.

    Args:
        scores: of one system, by document.
        number: how many of each kind.
    """
    in_order = np.argsort(scores, kind="stable")
    middle = len(in_order) // 2
    chosen: dict[int, str] = {}
    for why, places in (
        ("among the best", in_order[::-1][:number]),
        ("typical", in_order[max(0, middle - number // 2) :][:number]),
        ("among the worst", in_order[:number]),
    ):
        for place in places.tolist():
            chosen.setdefault(place, why)
    return list(chosen.items())


def _title(token: Mapping[str, Any]) -> str:
    parts = [f"{token['origin']}, probability {token['probability']:.2f}"]
    if "p_gen" in token:
        parts.append(
            f"copied {token['copied']:.2f}, generated {token['generated']:.2f}, p_gen {token['p_gen']:.2f}"
        )
    return "; ".join(parts)


def _sources(token: Mapping[str, Any]) -> str:
    return " ".join(f"{start}-{end}:{weight:.3f}" for start, end, weight in token.get("attended", ()))
