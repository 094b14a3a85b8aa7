"""What the faster ways of decoding cost: the same summaries, ROUGE and speed of `int8`, `shortlist` and `bfloat16`.

    python benchmarks/decode_ways.py models/pointer data/prepared/test.parquet

Decodes with the parameters of params.yaml, one thread, and compares each way with the exact one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from precis.evaluation.rouge import ROUGE_TYPES, RougeConvention, parallel_rouge
from precis.evaluation.rows import read_rows, references
from precis.params import load_params
from precis.serving.summarizer import Summarizer
from precis.serving.text_summarizer import FASTER_WAYS

WAYS = {
    "exact": {},
    "`int8`": {"int8": True},
    "`shortlist`": {"shortlist": True},
    "`shortlist` + `int8`": {"shortlist": True, "int8": True},
    "`bfloat16`": {"bfloat16": True},
    "`shortlist` + `bfloat16`": {"shortlist": True, "bfloat16": True},
}
SHOWN = ("rouge1", "rouge2", "rougeL")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--documents", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    params = load_params()
    settings = params.evaluation
    rows = next(read_rows(arguments.test, arguments.documents))
    documents = [row["document"] for row in rows]
    summarizer = Summarizer.load(arguments.model)
    convention = RougeConvention(
        stemmer=settings.stemmer,
        summary_level=settings.summary_level,
        references=settings.references,
        tokenizer=settings.tokenizer,
    )
    decoding = {**params.decoding.model_dump(mode="json"), **dict.fromkeys(FASTER_WAYS, False)}
    vocabulary = summarizer.target_vocabulary
    in_summaries = sum(vocabulary.summary_count(id_) > 0 for id_ in range(len(vocabulary)))
    print(f"{len(rows)} documents, {len(vocabulary)} words, {in_summaries} of them in training summaries")
    print(f"{convention.signature}\n")
    print("| way | same summary | ROUGE-1 | ROUGE-2 | ROUGE-L | documents per CPU second |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    exact: list[str] = []
    with parallel_rouge(convention, settings.processes) as rouge:
        for name, how in WAYS.items():
            seconds = []
            for _ in range(3):
                start = time.process_time()
                texts = [summary.text for summary in summarizer.summarize(documents, **{**decoding, **how})]
                seconds.append(time.process_time() - start)
            exact = exact or texts
            same = sum(one == other for one, other in zip(exact, texts, strict=True)) / len(texts)
            scores = rouge.score(zip(map(references, rows), texts, strict=True))
            means = [100 * scores.of(rouge_type).mean() for rouge_type in ROUGE_TYPES if rouge_type in SHOWN]
            cells = [f"{same:.2%}", *(f"{mean:.2f}" for mean in means), f"{len(texts) / min(seconds):.0f}"]
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
