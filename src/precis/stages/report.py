"""Put models and baselines side by side, and show what the corpus can teach."""

from __future__ import annotations

import logging
from pathlib import Path

from precis.files import atomic_path, remove_leftovers
from precis.params import load_params
from precis.reporting.comparison import compare_systems, markdown
from precis.reporting.data_page import write_data_page
from precis.reporting.index_page import index_page
from precis.reporting.systems import read_systems, scored_rows
from precis.stages.entry import run_stage

log = logging.getLogger(__name__)

REPORTS = Path("reports")
PREPARED = Path("data/prepared")
MODELS = Path("models")
PAGES = ["comparison.md", "index.html", "data.html", "data_checks.json", "vocabulary.json"]


def main() -> None:
    """Write reports/comparison.md, index.html and data.html, and show them with the runs in MLflow."""
    params = load_params()
    evaluation = params.evaluation
    write_data_page(REPORTS, PREPARED, REPORTS / "data.html", num_samples=params.prepare.examples)
    report(
        REPORTS,
        PREPARED / "test.parquet",
        resamples=evaluation.resamples,
        confidence=evaluation.confidence,
        seed=evaluation.seed,
    )
    from precis.training.tracking import log_pages

    models = [run.parent for run in sorted(MODELS.glob("*/run.json"))]
    log_pages(models, [REPORTS / name for name in PAGES])


def report(reports: Path, test: Path, *, resamples: int, confidence: float, seed: int) -> None:
    """Read the evaluations in `reports` and the documents in `test`; write comparison.md and index.html."""
    for name in ("comparison.md", "index.html", "data.html"):
        remove_leftovers(reports / name)
    systems = read_systems(reports)
    scores = [scored_rows(system) for system in systems]
    comparisons = compare_systems(systems, scores, resamples=resamples, confidence=confidence, seed=seed)
    with atomic_path(reports / "comparison.md") as path:
        path.write_text(markdown(systems, comparisons, confidence), encoding="utf-8")
    with atomic_path(reports / "index.html") as path:
        path.write_text(
            index_page(systems, scores, comparisons, test, confidence=confidence), encoding="utf-8"
        )
    log.info("wrote %s and %s", reports / "comparison.md", reports / "index.html")


if __name__ == "__main__":
    run_stage(main)
