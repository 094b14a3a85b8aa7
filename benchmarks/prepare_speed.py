"""Memory and speed of download, prepare, vocabulary and encode, each in a process of its own.

    python benchmarks/prepare_speed.py --rows 20000 200000
    python benchmarks/prepare_speed.py --rows 20000 --near-duplicates

The text is made up: words by Zipf's law over 200,000 of them, documents as long as AESLC's e-mails (117 words on
average, log-normal), summaries of four words, half of them from the document.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES = ("download", "prepare", "vocabulary", "encode")


def write_corpus(path: Path, num_rows: int, seed: int = 1) -> None:
    generator = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    lengths = 2 + generator.poisson(4, 200_000)
    spelled = "".join(generator.choice(letters, lengths.sum(), p=_falling(26)))
    ends = np.cumsum(lengths)
    words = [spelled[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    probabilities = _falling(len(words))
    with path.open("w") as file:
        for start in range(0, num_rows, 1_000):
            sizes = np.clip(generator.lognormal(4.3, 0.95, 1_000), 20, 3_000).astype(int)
            chosen = generator.choice(len(words), sizes.sum(), p=probabilities)
            for row, numbers in enumerate(np.split(chosen, np.cumsum(sizes)[:-1])):
                text = [words[number] for number in numbers]
                document = " ".join(
                    word.capitalize() if n % 12 == 0 else f"{word}." if n % 12 == 11 else word
                    for n, word in enumerate(text)
                )
                summary = " ".join([*text[5:7], *(words[n] for n in generator.integers(0, 5_000, 2))])
                file.write(
                    json.dumps({"id": f"row-{start + row}", "document": document, "summary": summary}) + "\n"
                )


def _falling(size: int) -> np.ndarray:
    weights = 1 / (np.arange(size) + 2.7)
    return weights / weights.sum()


def measure(num_rows: int, near_duplicates: bool, stages: list[str]) -> dict[str, tuple[float, float]]:
    """For each stage seconds of CPU time and the most memory, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_corpus(work / "corpus.jsonl", num_rows)
        yaml = YAML()
        params = yaml.load((ROOT / "params.yaml").read_text())
        params["corpus"]["source"] = "files"
        params["corpus"]["max_rows"] = None
        params["corpus"]["files"]["path"] = "corpus.jsonl"
        params["prepare"]["near_duplicates"]["search"] = near_duplicates
        with (work / "params.yaml").open("w") as file:
            yaml.dump(params, file)
        return {stage: _run(stage, work) for stage in stages}


def _run(stage: str, work: Path) -> tuple[float, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", f"precis.stages.{stage}"], cwd=work, env=environment, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{stage} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--near-duplicates", action="store_true")
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    arguments = parser.parse_args()
    for num_rows in arguments.rows:
        results = measure(num_rows, arguments.near_duplicates, arguments.stages)
        for stage, (seconds, memory) in results.items():
            speed = num_rows / seconds
            print(
                f"{num_rows:>9,} rows  {stage:<10} {seconds:8.1f} s CPU  {speed:9,.0f} rows/s  {memory:6.0f} MB"
            )
        if {"prepare", "encode"} <= set(results):
            both = results["prepare"][0] + results["encode"][0]
            print(
                f"{num_rows:>9,} rows  prepare + encode: {num_rows / both:,.0f} rows a CPU second", flush=True
            )


if __name__ == "__main__":
    main()
