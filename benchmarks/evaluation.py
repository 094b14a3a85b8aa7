"""Memory and time of evaluation: of 1,000 and of 10,000 documents, and of the statistics of a whole test set.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --documents 1000 10000 --processes 1

Documents are made up of English-like words as long as AESLC's e-mails (about 110 words); the model is a small
pointer-generator with random weights, since what it says changes neither memory nor time. Each evaluation is a
process of its own, and memory its peak of resident pages.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

RESAMPLES, DOCUMENTS = 10_000, 11_490  # CNN/DailyMail's test set
DECODING = {
    "beam_size": 2,
    "min_length": 1,
    "max_length": 12,
    "length_penalty": "wu",
    "length_alpha": 1.0,
    "coverage_penalty": "none",
    "coverage_beta": 0.0,
    "block_ngrams": 0,
    "block_exceptions": [],
    "banned_words": [],
    "frequent_words": 200,
    "shortlist": False,
    "int8": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument(
        "--processes", type=int, default=1, help="that decode and score; 0: one for each core"
    )
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*map(Path, arguments.worker), processes=arguments.processes)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write_model(root / "model")
        print(
            "| documents | peak memory, MB | of it evaluating, MB | largest other, MB | CPU seconds | written, MB |"
        )
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for number in arguments.documents:
            write_documents(root / f"{number}.parquet", number)
            report = root / f"report-{number}"
            worker = [str(root / "model"), str(root / f"{number}.parquet"), str(report)]
            command = [sys.executable, __file__, "--processes", str(arguments.processes), "--worker", *worker]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(told.splitlines()[-1])
            written = (report / "summaries.jsonl").stat().st_size / 1e6
            print(
                f"| {number:,} | {found['peak']:.0f} | {found['peak'] - found['before']:.0f} | "
                f"{found['largest']:.0f} | {found['seconds']:.0f} | {written:.0f} |"
            )
    resampling()


def resampling() -> None:
    from precis.evaluation.significance import bootstrap, paired_difference, randomisation_p_value

    values = np.random.default_rng(0).random((DOCUMENTS, 4)) * 100
    one, other = values[:, 0], values[:, 1]
    how = {"resamples": RESAMPLES, "seed": 0}
    print(f"\n{RESAMPLES:,} resamples of {DOCUMENTS:,} documents | CPU seconds\n--- | ---:")
    for name, run in (
        ("intervals of four metrics", lambda: bootstrap(values, confidence=0.95, **how)),
        ("approximate randomisation", lambda: randomisation_p_value(one - other, **how)),
        ("paired bootstrap and randomisation", lambda: paired_difference(one, other, confidence=0.95, **how)),
    ):
        start = time.process_time()
        run()
        print(f"{name} | {time.process_time() - start:.2f}")


def work(model: Path, test: Path, output: Path, *, processes: int) -> None:
    from precis.params import EvaluationParams
    from precis.serving.summarizer import Summarizer
    from precis.stages.evaluate import evaluate

    settings = EvaluationParams(
        seed=1,
        threads=1,
        processes=processes,
        batch_size=64,
        stemmer=True,
        summary_level="newline",
        references="best",
        tokenizer="unicode",
        resamples=1000,
        confidence=0.95,
        length_buckets=[50, 100, 200],
        baseline_sentences=1,
    )
    Summarizer.load(model).summarize(["one text, so that everything is loaded"], **DECODING)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    evaluate(model, test, output, decoding=DECODING, settings=settings)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    # the others have ended: the largest of them, and the time of all
    others = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() - start + others.ru_utime + others.ru_stime
    found = {"before": before, "peak": usage.ru_maxrss / 1024, "largest": others.ru_maxrss / 1024}
    print(json.dumps({**found, "seconds": seconds}))


def words() -> list[str]:
    generator = np.random.default_rng(5)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return ["".join(generator.choice(letters, size=generator.integers(2, 11))) for _ in range(8_000)]


def write_documents(path: Path, number: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(number)
    known = np.array(words())
    schema = pa.schema([(name, pa.string()) for name in ("id", "document", "summary")])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, number, 500):
            rows = []
            for row in range(start, min(start + 500, number)):
                length = int(np.clip(generator.lognormal(4.5, 0.6), 20, 400))
                ranks = np.minimum(generator.zipf(1.3, size=length) - 1, len(known) - 1)
                rows.append(
                    {
                        "id": f"d{row}",
                        "document": " ".join(known[ranks]) + ".",
                        "summary": " ".join(known[ranks[:7]]),
                    }
                )
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=500)


def write_model(directory: Path) -> None:
    import torch

    from precis.models.build import build_model, options_of
    from precis.models.storage import save_model
    from precis.text.vocabulary import Vocabulary

    torch.manual_seed(1)
    vocabulary = Vocabulary.build(Counter(words()[:2_000]), size=2_000, min_count=1)
    options = {
        "cell": "lstm", "layers": 1, "bidirectional": True, "embedding_size": 32, "hidden_size": 32,
        "decoder_size": 64, "tie_embeddings": True, "readout": "tanh", "dropout": 0.0, "word_dropout": 0.0,
        "label_smoothing": 0.0, "attention": "general", "input_feeding": False, "attend_with_cell": False,
        "intra_attention": False, "coverage": False, "coverage_weight": 0.0, "generation": "mixture",
        "pointing_weight": 0.0, "pretrained_embeddings": None,
    }  # fmt: skip
    size = len(vocabulary)
    model = build_model(
        "pointer",
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        shared_vocabulary=True,
        **{name: value for name, value in options.items() if name in options_of("pointer")},
    )
    directory.mkdir(parents=True)
    save_model(model, directory)
    vocabulary.save(directory / "shared.txt")
    text = {"lowercase": True, "source_max_length": 200, "shared": True, "decoding": DECODING}
    (directory / "text.json").write_text(json.dumps(text), encoding="utf-8")
    (directory / "run.json").write_text(json.dumps({"fingerprint": "none"}), encoding="utf-8")


if __name__ == "__main__":
    main()
