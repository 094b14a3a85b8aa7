"""reports/index.html: results, curves, and summaries to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from precis.errors import PrecisError
from precis.evaluation.rows import read_rows
from precis.reporting.charts import Chart, heat_map, length_chart, loss_curves, score_bars
from precis.reporting.comparison import (
    COLUMNS,
    Against,
    by_length_table,
    hints_of,
    p_value,
)
from precis.reporting.details import BY_LENGTH, by_length, subjects
from precis.reporting.page import render
from precis.reporting.reading import DocumentReading, read_document, worth_reading
from precis.reporting.systems import ScoredRows, System, select_rows, signature_of

DOCUMENTS_OF_A_KIND = 4  # best, typical and worst ones
HEAT_MAPS_OF_A_MODEL = 2
WINDOW = 1024  # rows in memory


@dataclass(frozen=True)
class _HeatMap:
    system: str
    id: str
    chart: Chart


def index_page(
    systems: Sequence[System],
    scores: Sequence[ScoredRows],
    comparisons: Sequence[Against],
    test: Path,
    *,
    confidence: float,
) -> str:
    """The page.

    Args:
        systems: baselines, then models from the lowest score to the highest.
        scores: of each system's documents.
        comparisons: of pairs of systems.
        test: the Parquet file of the documents.
        confidence: of the intervals.
    """
    best = systems[-1]
    return render(
        "index.html.j2",
        systems=systems,
        best=best,
        num_documents=int(best.metrics["num_documents"]),
        confidence=confidence,
        signature=signature_of(systems),
        columns=COLUMNS,
        comparisons=comparisons,
        p_value=p_value,
        hints=hints_of(systems),
        charts=_charts(systems),
        subjects=subjects(systems),
        by_length=by_length(best),
        by_length_columns=BY_LENGTH,
        documents=_documents(systems, scores, test),
        heat_maps=[
            _HeatMap(
                system.title,
                attention["id"],
                heat_map(attention, f"attention of {system.title} for {attention['id']}"),
            )
            for system in reversed(systems)
            for attention in system.heat_maps()[:HEAT_MAPS_OF_A_MODEL]
            if attention["summary"]
        ],
    )


def _charts(systems: Sequence[System]) -> list[Chart]:
    bars = [
        (
            system.title,
            system.metrics["rouge1"],
            system.metrics["rouge1_low"],
            system.metrics["rouge1_high"],
            system.is_baseline,
        )
        for system in systems
    ]
    histories = {system.title: system.table("history.csv") for system in systems if not system.is_baseline}
    found = [score_bars(bars), loss_curves(histories), length_chart(*by_length_table(systems))]
    return [chart for chart in found if chart is not None]


def _documents(systems: Sequence[System], scores: Sequence[ScoredRows], test: Path) -> list[DocumentReading]:
    chosen = worth_reading(scores[-1].of("rouge1"), DOCUMENTS_OF_A_KIND)
    why = {scores[-1].ids[place]: reason for place, reason in chosen}
    texts = find_documents(test, set(why))
    missing = why.keys() - texts.keys()
    if missing:
        raise PrecisError(
            f"{test} has no document {min(missing)!r} that a summary was written for: "
            "run `dvc repro evaluate` again"
        )
    shown = [system for system in systems if not system.is_baseline or system.name.startswith("lead")]
    rows = [(system.title, select_rows(system, set(why))) for system in reversed(shown)]
    return [
        read_document(
            rows[0][1][row_id],
            reason,
            texts[row_id],
            [(title, of_system[row_id]) for title, of_system in rows if row_id in of_system],
        )
        for row_id, reason in why.items()
    ]


def find_documents(test: Path, ids: set[str]) -> dict[str, str]:
    """Texts of those of the documents that the file has, by id."""
    return {
        row["id"]: row["document"] for window in read_rows(test, WINDOW) for row in window if row["id"] in ids
    }
