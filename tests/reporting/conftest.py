"""Evaluations of three systems, small and written by hand, with text that must stay inert."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

NASTY = "<script>document.title='taken over'</script><img src=x onerror=\"document.title='taken'\"> $x_1$ & 😀\x08 end"
SOURCE_IDS = [f"doc-{number}" for number in range(12)]


def token(text: str, start: int, origin: str, source: tuple[int, int] | None = None) -> dict:
    values = {
        "text": text,
        "word": text.lower(),
        "start": start,
        "end": start + len(text),
        "origin": origin,
        "probability": 0.5,
        "generated": 0.1,
        "copied": 0.4,
        "p_gen": 0.25,
        "attended": [[0, 8, 0.9]],
    }
    return values if source is None else {**values, "source": list(source)}


def rows(shift: int) -> list[dict]:
    found = []
    for number, row_id in enumerate(SOURCE_IDS):
        summary = f"<script>alert({number})</script> good"
        score = float((number * 7 + shift * (number % 5)) % 60)
        found.append(
            {
                "id": row_id,
                "summary": summary,
                "tokens": [
                    token(summary[:-5], 0, "copied", (0, 8)),
                    token("good", len(summary) - 4, "unsupported" if number % 2 else "generated"),
                ],
                "references": [f"reference {number} </p><b>"],
                "rouge": {"rouge1": score, "rouge2": score / 2, "rougeL": score, "rougeLsum": score},
                "source_words": 9,
            }
        )
    return found


def metrics(of_rows: list[dict], **more: float) -> dict:
    values = {"num_documents": len(of_rows)}
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        mean = sum(row["rouge"][name] for row in of_rows) / len(of_rows)
        values |= {name: mean, f"{name}_low": mean - 1, f"{name}_high": mean + 1}
    shares = ("oov_recall", "repetition", "novel_2grams", "empty_summaries", "most_common_summary")
    return {**values, **dict.fromkeys(shares, 0.0), "mean_length": 2.0, "length_ratio": 1.0, **more}


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """tmp/reports with lead-1, attention and pointer, and tmp/test.parquet."""
    documents = [f"{number} {NASTY}" for number in range(12)]
    pq.write_table(
        pa.table({"id": SOURCE_IDS, "document": documents, "summary": ["r"] * 12}), tmp_path / "test.parquet"
    )
    for name, shift, more in (
        ("baselines/lead_1", 0, {}),
        ("attention", 1, {"copy_rate": 0.0, "unsupported_rate": 0.5}),
        ("pointer", 3, {"copy_rate": 0.5, "unsupported_rate": 0.0, "oov_recall": 0.4}),
    ):
        directory = tmp_path / "reports" / name
        plots = directory / "plots"
        plots.mkdir(parents=True)
        found = rows(shift)
        if name.startswith("baselines"):
            for row in found:
                del row["tokens"], row["references"]
        lines = "".join(json.dumps(row) + "\n" for row in found)
        (directory / "summaries.jsonl").write_text(lines, encoding="utf-8")
        (directory / "metrics.json").write_text(json.dumps(metrics(found, **more)), encoding="utf-8")
        (plots / "signature.txt").write_text("rouge-score:x|y\n", encoding="utf-8")
        (plots / "by_length.csv").write_text(
            "document_words,num_documents,rouge1\n0-9,5,20.0\n10+,7,30.5\n", encoding="utf-8"
        )
        (plots / "history.csv").write_text(
            "step,epoch,train_loss,validation_loss,learning_rate\n10,0,4.0,,0.1\n20,0,,3.5,0.1\n",
            encoding="utf-8",
        )
        heat_map = {
            "id": "doc-0",
            "source": ["<svg", "onload=alert(1)>", "$x$", "&"],
            "summary": ["a", "b"],
            "origins": ["copied", "generated"],
            "p_gen": [0.1, 0.9],
            "attention": [[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]],
        }
        (plots / "attention.json").write_text(json.dumps([heat_map]), encoding="utf-8")
    return tmp_path / "reports"
