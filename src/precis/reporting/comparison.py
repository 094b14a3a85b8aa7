"""Models and baselines side by side, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from precis.evaluation.significance import Difference, paired_difference
from precis.evaluation.statistics import degeneration_hints
from precis.reporting.systems import ScoredRows, System, signature_of

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column of the results table."""

    title: str
    meaning: str
    show: Callable[[dict[str, float]], str]


@dataclass(frozen=True)
class Against:
    """How a system compares with another one on the same documents, in ROUGE points."""

    better: str
    other: str
    metric: str
    difference: Difference


def _rouge(name: str) -> Callable[[dict[str, float]], str]:
    def show(metrics: dict[str, float]) -> str:
        return f"{metrics[name]:.2f} [{metrics[f'{name}_low']:.2f}, {metrics[f'{name}_high']:.2f}]"

    return show


def _percent(name: str) -> Callable[[dict[str, float]], str]:
    return lambda metrics: f"{100 * metrics[name]:.1f} %" if name in metrics else MISSING


def _number(name: str) -> Callable[[dict[str, float]], str]:
    return lambda metrics: f"{metrics[name]:.1f}" if name in metrics else MISSING


COLUMNS = (
    Column("ROUGE-1", "F1 in points, with its bootstrap interval", _rouge("rouge1")),
    Column("ROUGE-2", "F1 in points, with its bootstrap interval", _rouge("rouge2")),
    Column("ROUGE-L", "F1 in points, with its bootstrap interval", _rouge("rougeL")),
    Column("ROUGE-Lsum", "F1 in points, with its bootstrap interval", _rouge("rougeLsum")),
    Column(
        "OOV recall",
        "share of the reference words outside the model's target vocabulary that the summary has",
        _percent("oov_recall"),
    ),
    Column("repetition", "share of three-word phrases that repeat an earlier one", _percent("repetition")),
    Column("novel 2-grams", "share of two-word phrases that the document has not", _percent("novel_2grams")),
    Column("copy rate", "share of words that were copied rather than generated", _percent("copy_rate")),
    Column(
        "unsupported",
        "share of words that are neither in the document nor frequent in training",
        _percent("unsupported_rate"),
    ),
    Column("length", "words and punctuation marks of a summary, on average", _number("mean_length")),
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
    by_length = _by_length(systems)
    if by_length:
        lines += ["", "## ROUGE-1 by length of the document", "", *by_length]
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


def by_length_table(systems: Sequence[System]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Ranges of document lengths with their numbers of documents, and each system's ROUGE-1 in them."""
    tables = [(system.title, system.table("by_length.csv")) for system in systems]
    tables = [(title, table) for title, table in tables if table]
    if not tables:
        return [], []
    ranges = [f"{row['document_words']} words ({int(row['num_documents']):,})" for row in tables[0][1]]
    return ranges, [(title, [f"{float(row['rouge1']):.2f}" for row in table]) for title, table in tables]


def _by_length(systems: Sequence[System]) -> list[str]:
    ranges, rows = by_length_table(systems)
    if len(ranges) < 2:
        return []
    head = [_row(["system", *ranges]), _row(["---", *["---:"] * len(ranges)])]
    return head + [_row([title, *cells]) for title, cells in rows]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
