"""Summarize the test split and score it."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precis.evaluation.corpus import CorpusEvaluation, Summarized
from precis.evaluation.progress import progress_bar
from precis.evaluation.results import write_by_length, write_metrics
from precis.evaluation.rouge import RougeConvention
from precis.evaluation.rows import count_rows, read_rows, references
from precis.evaluation.statistics import WordOrigin, degeneration_hints
from precis.execution.engine import Engine
from precis.execution.local import LocalEngine
from precis.execution.open_engine import open_engine
from precis.files import atomic_directory, atomic_path, remove_leftovers
from precis.params import EvaluationParams, load_params
from precis.stages.entry import run_stage

if TYPE_CHECKING:
    from precis.serving.summarizer import Summarizer
    from precis.serving.summary import Summary

log = logging.getLogger(__name__)

TEST = Path("data/prepared/test.parquet")
MODELS = Path("models")
REPORTS = Path("reports")
WINDOW_BATCHES = 4  # documents are sorted by length among so many batches; memory is bounded by them
FEWEST_FOR_PROCESSES = 500  # documents; for fewer, starting processes takes longer than the work
HEAT_MAPS = 4  # documents whose attention is kept whole for the report


def main() -> None:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="a folder of models/")
    name = parser.parse_args().model
    params = load_params()
    processes = _processes(params.evaluation, count_rows(TEST))
    with open_engine(**params.execution.model_dump(), processes=processes) as engine:
        metrics = evaluate(
            MODELS / name,
            TEST,
            REPORTS / name,
            decoding=params.decoding.model_dump(mode="json"),
            settings=params.evaluation,
            engine=engine,
        )
    from precis.training.tracking import log_evaluation

    log_evaluation(MODELS / name, metrics, REPORTS / name)
    log.info(
        "%s: ROUGE-1 %.2f [%.2f, %.2f], ROUGE-2 %.2f, ROUGE-L %.2f on %d documents; OOV recall %.3f",
        name,
        metrics["rouge1"],
        metrics["rouge1_low"],
        metrics["rouge1_high"],
        metrics["rouge2"],
        metrics["rougeL"],
        metrics["num_documents"],
        metrics["oov_recall"],
    )
    log.info("%s: signature %s", name, (REPORTS / name / "plots" / "signature.txt").read_text().strip())
    for hint in degeneration_hints(metrics):
        log.warning("%s: %s", name, hint)


def evaluate(
    model_directory: Path,
    test: Path,
    output: Path,
    *,
    decoding: Mapping[str, Any],
    settings: EvaluationParams,
    engine: Engine | None = None,
) -> dict[str, float]:
    """Write output/metrics.json, output/summaries.jsonl and output/plots; give the metrics.

    Memory holds a few windows of documents, whatever the size of the corpus, and four numbers of each.

    Args:
        model_directory: the model.
        test: the rows, as Parquet.
        output: the folder to write.
        decoding: the decoding parameters.
        settings: how to score, and how many documents to decode together.
        engine: where documents are summarized and scored, the files are the same; None: on this machine, by
            `settings.processes`.
    """
    import torch

    from precis.serving.row_summaries import SummarizeAndScore

    for name in ("summaries.jsonl", "plots", "metrics.json"):
        remove_leftovers(output / name)
    torch.set_num_threads(settings.threads)
    num_rows = count_rows(test)
    engine = engine or LocalEngine(_processes(settings, num_rows))
    convention = RougeConvention(
        stemmer=settings.stemmer,
        summary_level=settings.summary_level,
        references=settings.references,
        tokenizer=settings.tokenizer,
    )
    weights = model_directory / "model.safetensors"
    summarize = SummarizeAndScore(
        model_directory.resolve(),
        weights.stat().st_mtime_ns if weights.is_file() else 0,  # without them, loading says what is missing
        settings.batch_size,
        settings.threads,
        dict(decoding),
        convention,
    )
    summarizer = summarize.summarizer
    evaluation = CorpusEvaluation(
        None,
        summarizer.words,
        summarizer.target_vocabulary.__contains__,
        length_bounds=settings.length_buckets,
    )
    window_rows = settings.batch_size * WINDOW_BATCHES
    with (
        atomic_path(output / "summaries.jsonl") as summaries_file,
        summaries_file.open("w", encoding="utf-8", newline="\n") as lines,
        progress_bar(num_rows, f"{model_directory.name}: test documents") as advance,
    ):
        done = engine.map_rows(test, summarize, chunk_rows=window_rows, keeps=True)
        for window, (summaries, known_scores) in zip(read_rows(test, window_rows), done, strict=True):
            scores = evaluation.add(
                [
                    Summarized(
                        row["document"], references(row), summary.text, summary.words, _origins(summary)
                    )
                    for row, summary in zip(window, summaries, strict=True)
                ],
                known_scores,
            )
            for row, summary, rouge_of_row in zip(window, summaries, scores, strict=True):
                line = {
                    "id": row["id"],
                    **summary.as_dict(),
                    "references": references(row),
                    "rouge": {name: round(value, 6) for name, value in rouge_of_row.items()},
                    "source_words": summary.num_source_words,
                }
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
            advance(len(window))
        metrics = evaluation.metrics(
            resamples=settings.resamples, confidence=settings.confidence, seed=settings.seed
        )
    with atomic_directory(output / "plots") as plots:
        write_by_length(evaluation, plots / "by_length.csv")
        _write_heat_maps(summarizer, test, decoding, plots / "attention.json")
        (plots / "signature.txt").write_text(convention.signature + "\n", encoding="utf-8")
        history = model_directory / "history.csv"
        if history.is_file():
            shutil.copy(history, plots / "history.csv")
    write_metrics(metrics, output / "metrics.json")
    return metrics


def _processes(settings: EvaluationParams, num_rows: int) -> int:
    return settings.processes if num_rows >= FEWEST_FOR_PROCESSES else 1


def _origins(summary: Summary) -> list[WordOrigin]:
    return [
        WordOrigin(token.origin, token.copied / token.probability if token.probability else 0.0, token.p_gen)
        for token in summary.tokens
    ]


def _write_heat_maps(summarizer: Summarizer, test: Path, decoding: Mapping[str, Any], path: Path) -> None:
    """Write the whole attention over the first documents, for the report to draw."""
    rows = next(read_rows(test, HEAT_MAPS))
    summaries = summarizer.summarize([row["document"] for row in rows], keep_attention=True, **decoding)
    maps = [
        _heat_map(row["id"], row["document"], summary, summarizer)
        for row, summary in zip(rows, summaries, strict=True)
        if summary.attention is not None
    ]
    path.write_text(json.dumps(maps, ensure_ascii=False) + "\n", encoding="utf-8")


def _heat_map(row_id: str, document: str, summary: Summary, summarizer: Summarizer) -> dict[str, Any]:
    assert summary.attention is not None
    tokens = summarizer.source_tokens(document)
    return {
        "id": row_id,
        "source": [document[token.start : token.end] for token in tokens],
        "summary": [token.text for token in summary.tokens],
        "origins": [token.origin for token in summary.tokens],
        "p_gen": [None if token.p_gen is None else round(token.p_gen, 4) for token in summary.tokens],
        "attention": [[round(weight, 4) for weight in row] for row in summary.attention],
    }


if __name__ == "__main__":
    run_stage(main)
