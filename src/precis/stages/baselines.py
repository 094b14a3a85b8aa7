"""Score what needs no model: the first, the longest and random sentences, and the best ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from precis.evaluation.baselines import Baseline, Lead, Longest, Oracle, RandomSentences, extract
from precis.evaluation.corpus import CorpusEvaluation, Summarized
from precis.evaluation.progress import progress_bar
from precis.evaluation.results import write_by_length, write_metrics
from precis.evaluation.rouge import RougeConvention, parallel_rouge
from precis.evaluation.rows import count_rows, read_rows, references
from precis.files import atomic_directory, remove_leftovers
from precis.params import EvaluationParams, load_params
from precis.stages.entry import run_stage
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import Vocabulary

log = logging.getLogger(__name__)

TEST = Path("data/prepared/test.parquet")
VOCABULARY = Path("data/vocabulary")
OUTPUT = Path("reports/baselines")
WINDOW = 1024  # documents in memory
FEWEST_FOR_PROCESSES = 500  # documents; for fewer, starting processes takes longer than scoring


def main() -> None:
    """Score the baselines."""
    params = load_params()
    score_baselines(
        TEST,
        VOCABULARY / ("shared.txt" if params.vocabulary.shared else "target.txt"),
        OUTPUT,
        lowercase=params.text.lowercase,
        settings=params.evaluation,
    )


def score_baselines(
    test: Path, target_vocabulary: Path, output: Path, *, lowercase: bool, settings: EvaluationParams
) -> None:
    """Write output/NAME/metrics.json and output/NAME/summaries.jsonl for each baseline.

    OOV recall is measured against the models' target vocabulary, so that it compares with theirs.
    """
    remove_leftovers(output)
    num_rows = count_rows(test)
    words = Tokenizer(lowercase=lowercase).words
    known = Vocabulary.load(target_vocabulary).__contains__
    convention = RougeConvention(
        stemmer=settings.stemmer,
        summary_level=settings.summary_level,
        references=settings.references,
        tokenizer=settings.tokenizer,
    )
    number = settings.baseline_sentences
    baselines: dict[str, Baseline] = {
        f"lead_{number}": Lead(number),
        f"longest_{number}": Longest(number),
        f"random_{number}": RandomSentences(number, settings.seed),
        f"oracle_{number}": Oracle(number, convention),
    }
    processes = settings.processes if num_rows >= FEWEST_FOR_PROCESSES else 1
    with (
        atomic_directory(output) as directory,
        parallel_rouge(convention, processes) as rouge,
        progress_bar(num_rows * len(baselines), "baselines") as advance,
    ):
        for name, baseline in baselines.items():
            evaluation = CorpusEvaluation(rouge, words, known, length_bounds=settings.length_buckets)
            folder = directory / name
            folder.mkdir()
            with (folder / "summaries.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
                for window in read_rows(test, WINDOW):
                    pairs = [(row["document"], references(row)) for row in window]
                    texts = extract(baseline, pairs, rouge.map)
                    scores = evaluation.add(
                        [Summarized(*pair, text) for pair, text in zip(pairs, texts, strict=True)]
                    )
                    for row, text, score in zip(window, texts, scores, strict=True):
                        rouge_of_row = {kind: round(value, 6) for kind, value in score.items()}
                        line = {"id": row["id"], "summary": text, "rouge": rouge_of_row}
                        lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                    advance(len(window))
            metrics = evaluation.metrics(
                resamples=settings.resamples, confidence=settings.confidence, seed=settings.seed
            )
            write_metrics(metrics, folder / "metrics.json")
            (folder / "signature.txt").write_text(convention.signature + "\n", encoding="utf-8")
            write_by_length(evaluation, folder / "by_length.csv")
            log.info(
                "%s: ROUGE-1 %.2f, ROUGE-2 %.2f, ROUGE-L %.2f",
                name,
                metrics["rouge1"],
                metrics["rouge2"],
                metrics["rougeL"],
            )
        log.info("signature: %s", convention.signature)


if __name__ == "__main__":
    run_stage(main)
