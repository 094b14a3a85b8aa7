"""Results as files: the same bytes for the same values."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from precis.evaluation.corpus import CorpusEvaluation
from precis.evaluation.rouge import ROUGE_TYPES
from precis.files import atomic_path


def write_metrics(metrics: Mapping[str, float], path: Path) -> None:
    """Write metrics as JSON, the same bytes for the same values."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def write_by_length(evaluation: CorpusEvaluation, bounds: Sequence[int], path: Path) -> None:
    """Write mean ROUGE by length of the document as a table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["document_words", "num_documents", *ROUGE_TYPES])
        for bucket in evaluation.by_length(bounds):
            span = f"{bucket.first}+" if bucket.beyond is None else f"{bucket.first}-{bucket.beyond - 1}"
            means = [round(mean, 4) for mean in bucket.means]
            writer.writerow([span, bucket.num_documents, *means])
