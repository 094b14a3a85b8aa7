"""Results as files: the same bytes for the same values."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from precis.evaluation.corpus import CorpusEvaluation
from precis.files import atomic_path

COUNT = "num_documents"


def write_metrics(metrics: Mapping[str, float], path: Path) -> None:
    """Write metrics as JSON, the same bytes for the same values."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def write_by_length(evaluation: CorpusEvaluation, path: Path) -> None:
    """Write mean ROUGE and all statistics by length of the document as a table."""
    buckets = evaluation.by_length()
    names = list(dict.fromkeys(name for bucket in buckets for name in bucket.metrics if name != COUNT))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["document_words", COUNT, *names])
        for bucket in buckets:
            span = f"{bucket.first}+" if bucket.beyond is None else f"{bucket.first}-{bucket.beyond - 1}"
            # p_gen has no mean where no summary has a word
            cells = [round(bucket.metrics[name], 4) if name in bucket.metrics else "" for name in names]
            writer.writerow([span, bucket.metrics[COUNT], *cells])
