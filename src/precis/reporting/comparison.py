"""Models and baselines side by side, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from precis.evaluation.significance import Difference, paired_difference
from precis.evaluation.statistics import degeneration_hints
from precis.reporting.details import (
    BY_LENGTH,
    COPY_RATE,
    NOVEL,
    OOV_RECALL,
    REPETITION,
    UNSUPPORTED,
    Statistic,
    Values,
    by_length,
    number,
    subjects,
)
from precis.reporting.systems import ScoredRows, System, signature_of


@dataclass(frozen=True)
class Against:
    """How a system compares with another one on the same documents, in ROUGE points."""

    better: str
    other: str
    metric: str
    difference: Difference


def _rouge(name: str) -> Callable[[Values], str]:
    def show(metrics: Values) -> str:
        return f"{metrics[name]:.2f} [{metrics[f'{name}_low']:.2f}, {metrics[f'{name}_high']:.2f}]"

    return show


COLUMNS = (
    Statistic("ROUGE-1", "F1 in points, with its bootstrap interval", _rouge("rouge1")),
    Statistic("ROUGE-2", "F1 in points, with its bootstrap interval", _rouge("rouge2")),
    Statistic("ROUGE-L", "F1 in points, with its bootstrap interval", _rouge("rougeL")),
    Statistic("ROUGE-Lsum", "F1 in points, with its bootstrap interval", _rouge("rougeLsum")),
    OOV_RECALL,
    REPETITION,
    NOVEL[1],
    COPY_RATE,
    UNSUPPORTED,
    Statistic("length", "words and punctuation marks of a summary, on average", number("mean_length")),
)


def markdown(systems: Sequence[System], comparisons: Sequence[Against], confidence: float) -> str:
    """The comparison as a Markdown page."""
    num_documents = int(systems[-1].metrics["num_documents"])
    header = ["system", *(column.title for column in COLUMNS)]
    lines = [
        "# Comparison",
        "",
        f"{num_documents:,} test documents. ROUGE is F1 in points, with {confidence:.0%} bootstrap intervals.",
        "",
    ]
    signature = signature_of(systems)
    if signature is not None:
        lines += [f"Signature: `{signature}`", ""]
    lines += [_row(header), _row(["---", *["---:"] * len(COLUMNS)])]
    lines += [
        _row([system.title, *(column.show(system.metrics) for column in COLUMNS)]) for system in systems
    ]
    lines += ["", *(f"- {column.title}: {column.meaning}." for column in COLUMNS[4:])]
    if comparisons:
        lines += ["", "## Differences on the same documents", ""]
        lines += [
            _row(["better", "than", "by", "interval", "p"]),
            _row(["---", "---", "---:", "---:", "---:"]),
        ]
        for one in comparisons:
            lines.append(
                _row(
                    [
                        one.better,
                        one.other,
                        f"{one.difference.mean:+.2f} ROUGE-1",
                        f"[{one.difference.low:+.2f}, {one.difference.high:+.2f}]",
                        p_value(one.difference),
                    ]
                )
            )
        lines += ["", "Interval: paired bootstrap. p: approximate randomisation, two-sided."]
    lines += ["", "## What is in the summaries"]
    for subject, rows in subjects(systems):
        titles = [system.title for system in systems]
        lines += ["", _row([subject, *titles]), _row(["---", *["---:"] * len(systems)])]
        lines += [_row([one.title, *cells]) for one, cells in rows]
    by_range = _by_length(systems)
    if by_range:
        lines += ["", "## ROUGE-1 by length of the document", "", *by_range]
    best_by_range = by_length(systems[-1])
    if best_by_range:
        lines += ["", f"## {systems[-1].title} by length of the document", ""]
        lines += [
            _row(["words", *(one.title for one in BY_LENGTH)]),
            _row(["---", *["---:"] * len(BY_LENGTH)]),
        ]
        lines += [_row([span, *cells]) for span, cells in best_by_range]
    hints = hints_of(systems)
    if hints:
        lines += ["", "## What to look at", "", *(f"- {hint}" for hint in hints)]
    return "\n".join(lines) + "\n"


def compare_systems(
    systems: Sequence[System],
    scores: Sequence[ScoredRows],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> list[Against]:
    """Each model against the one before it, and the best against the lead baseline."""
    models = [number for number, system in enumerate(systems) if not system.is_baseline]
    pairs = [(better, other) for other, better in pairwise(models)][::-1]
    pairs += [(models[-1], number) for number, system in enumerate(systems) if system.name.startswith("lead")]
    return [
        Against(
            better=systems[better].title,
            other=systems[other].title,
            metric="rouge1",
            difference=paired_difference(
                scores[other].of("rouge1"),
                scores[better].of("rouge1"),
                resamples=resamples,
                confidence=confidence,
                seed=seed,
            ),
        )
        for better, other in pairs
        if scores[better].ids == scores[other].ids
    ]


def hints_of(systems: Sequence[System]) -> list[str]:
    """What is plainly wrong with the models' summaries."""
    return [
        f"{system.title}: {hint}"
        for system in systems
        if not system.is_baseline
        for hint in degeneration_hints(system.metrics)
    ]


def p_value(difference: Difference) -> str:
    """A p-value as tables show it."""
    return "< 0.001" if difference.p_value < 0.001 else f"{difference.p_value:.3f}"


def by_length_table(systems: Sequence[System]) -> tuple[list[str], list[tuple[str, list[str], bool]]]:
    """Ranges of document lengths with their numbers of documents, and each system's ROUGE-1 in them.

    A row is a system's title, its values, and whether it is a baseline.
    """
    tables = [(system, system.table("by_length.csv")) for system in systems]
    tables = [(system, table) for system, table in tables if table]
    if not tables:
        return [], []
    ranges = [f"{row['document_words']} ({int(row['num_documents']):,})" for row in tables[0][1]]
    return ranges, [
        (system.title, [f"{float(row['rouge1']):.2f}" for row in table], system.is_baseline)
        for system, table in tables
    ]


def _by_length(systems: Sequence[System]) -> list[str]:
    ranges, rows = by_length_table(systems)
    if len(ranges) < 2:
        return []
    head = [_row(["words (documents)", *ranges]), _row(["---", *["---:"] * len(ranges)])]
    return head + [_row([title, *cells]) for title, cells, _ in rows]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
