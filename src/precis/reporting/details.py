"""What is in the summaries, in numbers: every statistic of every system, and of the best one by length."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from precis.reporting.systems import System

MISSING = "–"
Values = Mapping[str, float]


@dataclass(frozen=True)
class Statistic:
    """A number that tables show.

    Attributes:
        title: what it is called.
        meaning: what it is, in a sentence.
        show: how it is written, from the metrics.
    """

    title: str
    meaning: str
    show: Callable[[Values], str]


def percent(name: str) -> Callable[[Values], str]:
    """Show a share."""
    return lambda metrics: f"{100 * metrics[name]:.1f} %" if name in metrics else MISSING


def number(name: str, digits: int = 1) -> Callable[[Values], str]:
    """Show a number."""
    return lambda metrics: f"{metrics[name]:,.{digits}f}" if name in metrics else MISSING


OOV_RECALL = Statistic(
    "OOV recall",
    "share of the reference words outside the model's target vocabulary that the summary has",
    percent("oov_recall"),
)
REPETITION = Statistic(
    "repetition", "share of three-word phrases that repeat an earlier one", percent("repetition")
)
COPY_RATE = Statistic(
    "copy rate", "share of words that were copied rather than generated", percent("copy_rate")
)
UNSUPPORTED = Statistic(
    "unsupported",
    "share of words that are neither in the document nor frequent in training",
    percent("unsupported_rate"),
)
NOVEL = tuple(
    Statistic(
        f"novel {n}-grams",
        f"share of the distinct phrases of {n} words that the document has not" if n > 1
        else "share of the distinct words that the document has not",
        percent(f"novel_{n}grams"),
    )
    for n in range(1, 5)
)  # fmt: skip
P_GEN = Statistic(
    "p_gen", "probability of generating rather than copying, on average", number("p_gen_mean", 2)
)
LENGTH_RATIO = Statistic(
    "length ratio", "words of the summaries for each word of the references", number("length_ratio", 2)
)

# the whole list, by subject
SUBJECTS: tuple[tuple[str, tuple[Statistic, ...]], ...] = (
    (
        "Where words come from",
        (
            COPY_RATE,
            Statistic(
                "copied mass", "share of the probability of words that was copied", percent("copied_mass")
            ),
            P_GEN,
            UNSUPPORTED,
            Statistic(
                "unsupported summaries",
                "share of the summaries without a single supported word",
                percent("unsupported_summaries"),
            ),
            OOV_RECALL,
            Statistic(
                "unknown in references",
                "share of the reference words outside the target vocabulary",
                percent("oov_reference_rate"),
            ),
        ),
    ),
    (
        "Copied from the document",
        (
            *NOVEL,
            Statistic(
                "copied span, mean",
                "words of a run of two or more that stands in the document as it is, on average",
                number("copied_span_mean"),
            ),
            Statistic("copied span, longest", "words of the longest of them", number("copied_span_longest", 0)),
            Statistic(
                "in copied spans", "share of the words that are in such runs", percent("copied_span_coverage")
            ),
            Statistic(
                "whole sentences",
                "share of the sentences that are sentences of the document",
                percent("copied_sentences"),
            ),
        ),
    ),
    (
        "Length and repetition",
        (
            Statistic(
                "length", "words and punctuation marks of a summary, on average", number("mean_length")
            ),
            LENGTH_RATIO,
            Statistic("compression", "words of the summaries for each word read", percent("compression")),
            REPETITION,
            Statistic("repeated words", "share of words that came before", percent("repeated_1grams")),
            Statistic(
                "repeated 2-grams",
                "share of two-word phrases that repeat an earlier one",
                percent("repeated_2grams"),
            ),
        ),
    ),
    (
        "Degenerate output",
        (
            Statistic("empty", "share of the documents with an empty summary", percent("empty_summaries")),
            Statistic(
                "distinct", "different summaries for each document", percent("distinct_summaries")
            ),
            Statistic(
                "most frequent",
                "share of the documents that got the most frequent summary",
                percent("most_common_summary"),
            ),
        ),
    ),
)  # fmt: skip
BY_LENGTH = (
    Statistic("documents", "in the range", number("num_documents", 0)),
    *(
        Statistic(title, "F1 in points", number(name, 2))
        for title, name in (("ROUGE-1", "rouge1"), ("ROUGE-2", "rouge2"), ("ROUGE-L", "rougeL"))
    ),
    OOV_RECALL,
    NOVEL[1],
    REPETITION,
    COPY_RATE,
    P_GEN,
    UNSUPPORTED,
    LENGTH_RATIO,
)


def by_length(system: System) -> list[tuple[str, list[str]]]:
    """The statistics BY_LENGTH of a system, by range of lengths; empty where there is one range alone."""
    table = system.table("by_length.csv")
    if len(table) < 2:
        return []
    rows = []
    for row in table:
        metrics = {name: float(cell) for name, cell in row.items() if name != "document_words" and cell}
        rows.append((row["document_words"], [one.show(metrics) for one in BY_LENGTH]))
    return rows


def subjects(systems: Sequence[System]) -> list[tuple[str, list[tuple[Statistic, list[str]]]]]:
    """Every statistic with each system's value, by subject; what no system has is left out."""
    found = []
    for subject, statistics in SUBJECTS:
        rows = [(one, [one.show(system.metrics) for system in systems]) for one in statistics]
        rows = [(one, cells) for one, cells in rows if set(cells) != {MISSING}]
        if rows:
            found.append((subject, rows))
    return found
