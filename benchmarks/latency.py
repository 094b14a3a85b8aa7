"""How long one summary takes, and the first one after a start: torch, its faster ways, and ONNX.

    python benchmarks/latency.py

A pointer model of recipe size (embedding 128, hidden 256, one layer, attention `general`) with random weights,
documents of 200 words, beam 4, one thread. Random weights end where they like, so the length is forced: 16 words, which
is more than most summaries of the recipes have, and 30, the most that params.yaml allows.

CPU time of the process is printed beside wall time: on a machine that does other things it is what can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from precis import Summarizer
from precis.export.runtime import OnnxSummarizer
from precis.export.write import export_model
from precis.models.build import build_model
from precis.models.storage import save_model
from precis.opening import located
from precis.serving.text_summarizer import TextSummarizer
from precis.text.vocabulary import Vocabulary

WORDS = 200
LENGTHS = (16, 30)
WAYS: dict[str, dict[str, Any]] = {
    "exact": {},
    "`int8`": {"int8": True},
    "`shortlist`": {"shortlist": True},
    "both": {"int8": True, "shortlist": True},
}
START = """
import sys
from pathlib import Path
text = Path(sys.argv[2]).read_text()
if sys.argv[3] == "onnx":
    from precis.export.runtime import OnnxSummarizer as Summarizer
else:
    import torch
    torch.set_num_threads(1)
    from precis import Summarizer
Summarizer.load(sys.argv[1]).summarize(text)
"""


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabularies", default="8000,20000")
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| vocabulary | way | words | CPU p50 | CPU p95 | wall p50 | wall p95 |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, arguments.vocabularies.split(",")):
            directory, exported = Path(folder, str(size)), Path(folder, f"{size}-onnx")
            documents = make_model(directory, size, arguments.documents)
            with located(str(directory)) as found:
                export_model(
                    found.directory, exported, decoding=found.decoding, digest=found.digest, run_id=None,
                    model_version=None,
                )  # fmt: skip
            torch_side, onnx_side = Summarizer.load(directory), OnnxSummarizer.load(exported)
            sides: dict[str, tuple[TextSummarizer, dict[str, Any]]] = {
                **{f"torch, {way}": (torch_side, how) for way, how in WAYS.items()},
                "ONNX": (onnx_side, {}),
                "ONNX, `shortlist`": (onnx_side, {"shortlist": True}),
            }
            for length in LENGTHS:
                for name, row in measure(sides, documents, length, arguments.rounds).items():
                    cells = " | ".join(f"{1000 * value:.1f} ms" for value in row)
                    print(f"| {size:,} | {name} | {length} | {cells} |", flush=True)
        print("\n| from the start of Python to the first summary | CPU | wall |\n| --- | ---: | ---: |")
        text = Path(folder, "text.txt")
        text.write_text(documents[0])
        for name, model in (("torch", directory), ("onnx", exported)):
            cpu, wall = start_up([str(model), str(text), name], arguments.starts)
            print(f"| {name} | {cpu:.2f} s | {wall:.2f} s |", flush=True)


def make_model(directory: Path, size: int, num_documents: int) -> list[str]:
    """Write a model directory; give documents with a twentieth of their words out of the vocabulary."""
    generator = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = sorted({"".join(generator.choices(letters, k=generator.randint(3, 9))) for _ in range(size * 2)})
    generator.shuffle(words)
    known, unknown = words[: size - 4], words[size - 4 :]
    # a quarter of the words occurs in summaries
    in_summaries = dict.fromkeys(known[::4], 5)
    counts = Counter({word: size - place for place, word in enumerate(known)})
    vocabulary = Vocabulary.build(counts, size, 1, summary_counts=in_summaries)
    torch.manual_seed(1)
    model = build_model(
        "pointer", source_vocabulary_size=size, target_vocabulary_size=size, shared_vocabulary=True, cell="lstm",
        layers=1, bidirectional=True, embedding_size=128, hidden_size=256, decoder_size=256, tie_embeddings=True,
        readout="tanh", dropout=0.0, word_dropout=0.0, label_smoothing=0.0, attention="general", input_feeding=False,
        attend_with_cell=False, intra_attention=False, coverage=False, coverage_weight=0.0, generation="mixture",
        pointing_weight=0.0,
    )  # fmt: skip
    directory.mkdir()
    save_model(model, directory)
    vocabulary.save(directory / "shared.txt")
    decoding = {
        "beam_size": 4, "min_length": 16, "max_length": 16, "length_penalty": "wu", "length_alpha": 1.6,
        "coverage_penalty": "none", "coverage_beta": 0.0, "block_ngrams": 3, "block_exceptions": [], "banned_words": [],
        "frequent_words": 500,
    }  # fmt: skip
    text = {"lowercase": True, "source_max_length": 400, "shared": True, "decoding": decoding}
    (directory / "text.json").write_text(json.dumps(text))
    weights = 1 / np.arange(1, len(known) + 1)
    choose = np.random.default_rng(1)
    documents = []
    for _ in range(num_documents):
        chosen = choose.choice(known, size=WORDS, p=weights / weights.sum()).tolist()
        for place in range(0, WORDS, 20):
            chosen[place] = generator.choice(unknown)
        documents.append(" ".join(chosen))
    return documents


def measure(
    sides: dict[str, tuple[TextSummarizer, dict[str, Any]]], documents: list[str], length: int, rounds: int
) -> dict[str, list[float]]:
    """CPU and wall time of a call, median and 95th percentile, of each side; they take turns."""
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    wall: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, (summarizer, how) in sides.items():
            for document in documents:
                seconds, elapsed = timed(
                    lambda summarizer=summarizer, how=how, document=document: summarizer.summarize(
                        document, min_length=length, max_length=length, **how
                    )
                )
                if number:  # the first round warms up
                    cpu[name].append(seconds)
                    wall[name].append(elapsed)
    return {
        name: [float(np.percentile(values, q)) for values in (cpu[name], wall[name]) for q in (50, 95)]
        for name in sides
    }


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall time of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def start_up(arguments: list[str], number: int) -> tuple[float, float]:
    """CPU and wall time of a process that makes one summary, medians."""
    cpu, wall = [], []
    for _ in range(number):
        before, start = os.times(), time.perf_counter()
        subprocess.run([sys.executable, "-c", START, *arguments], check=True)
        after = os.times()
        wall.append(time.perf_counter() - start)
        cpu.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    return float(np.median(cpu)), float(np.median(wall))


if __name__ == "__main__":
    main()
