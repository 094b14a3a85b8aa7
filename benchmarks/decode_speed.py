"""Decoding speed: precis, OpenNMT-py 3.5.1 and a one-document-at-a-time port of See et al. (2017), side by side.

    python benchmarks/decode_speed.py --corpus PATH/test.jsonl

Beam 4, sources of at most 200 words, a vocabulary of 20,000, hidden size 256, copying, random weights. Two
ways: every hypothesis forced to 16 steps, and every document ending after as many words as its reference has, which
lets finished documents leave the batch on both sides. Sides take turns on the same documents; figures are medians
over the rounds. With one thread the clock is CPU time. With more it is wall time, the machine should be idle, and
precis works as `evaluate` does, with as many processes of one thread each; the others with so many threads.

The port has the encoder of the others and a decoder half as wide; `port+256` has See et al.'s own hidden size, with a
decoder as wide as that of the others and an encoder twice as wide.

NAME@SIZE is a side with batches of that size: OpenNMT-py is tried with several, and its best counts. It gets the
documents in the order of the corpus, as `onmt_translate` reads them; `opennmt+sorted` gets them by length, as precis
sorts them for itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from speed_data import Sizes, make_workload, read_pairs, synthetic_pairs
from train_speed import WORK, opennmt_python

HERE = Path(__file__).resolve().parent
SIDES = (
    "precis@64,precis+int8@64,precis+shortlist@64,precis+shortlist+int8@64,precis+shortlist+int8@128,"
    "precis+bfloat16@64,precis+shortlist+bfloat16@64,precis+shortlist+bfloat16@128,"
    "opennmt@16,opennmt@32,opennmt@64,opennmt+sorted@32,opennmt+sorted@64,port,port+256"
)
FORCED_LIMIT_FLOPS = 4 * 16 * 2 * 256 * 20_000  # a document's share of the vocabulary product: beams x steps


class Side:
    """One or more processes that summarize when they are told to."""

    def __init__(self, name: str, workload: Path, threads: int) -> None:
        python = opennmt_python() if name.startswith("opennmt") else Path(sys.executable)
        parts = threads if name.startswith("precis") else 1
        threads = threads // parts
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        self.name = name
        self.turns: dict[bool, list[dict[str, float]]] = {True: [], False: []}
        self.log = WORK / f"decode-{name.replace('@', '-')}.log"
        command = [python, "-W", "ignore", HERE / "decode_worker.py", workload, name, str(threads)]
        self.processes = [
            subprocess.Popen(
                [*command, str(part), str(parts)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log.open("w"),
                text=True,
                env=environment,
            )
            for part in range(parts)
        ]
        self._answers()

    def run(self, *, forced: bool) -> dict[str, float]:
        """Documents, CPU seconds of all processes, and wall seconds until the last is done."""
        start = time.perf_counter()
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"forced": forced}) + "\n")
            process.stdin.flush()
        answers = self._answers()
        total = {name: sum(answer[name] for answer in answers) for name in ("documents", "cpu")}
        return {**total, "wall": time.perf_counter() - start}

    def stop(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def _answers(self) -> list[dict[str, Any]]:
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{self.name} ended early; see {self.log}")
            answers.append(json.loads(line))
        return answers


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="JSON Lines; without: drawn by chance")
    parser.add_argument("--documents", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", default=SIDES)
    arguments = parser.parse_args()

    sizes = Sizes(20_000, 128, 128, 200, 16, 64, 64)
    pairs = read_pairs(arguments.corpus) if arguments.corpus else synthetic_pairs(4000, seed=1)
    WORK.mkdir(parents=True, exist_ok=True)
    workload = WORK / "decode.json"
    make_workload(pairs, sizes, max(1, arguments.documents // sizes.batch), seed=1).save(workload)

    clock = "cpu" if arguments.threads == 1 else "wall"
    sides = [Side(name, workload, arguments.threads) for name in arguments.sides.split(",")]
    for side in sides:  # once for caches and page faults
        side.run(forced=True)
    for _ in range(arguments.rounds):
        for forced in (True, False):
            for side in sides:
                side.turns[forced].append(side.run(forced=forced))
    for side in sides:
        side.stop()

    unit = "CPU second" if clock == "cpu" else "second"
    print(
        f"documents per {unit}, {arguments.threads} thread(s), median of {arguments.rounds} (lowest-highest)"
    )
    print("| side | 16 steps forced | ending as references do |\n| --- | ---: | ---: |")
    medians: dict[str, dict[bool, float]] = {}
    for side in sides:
        rates = {
            forced: [turn["documents"] / turn[clock] for turn in turns]
            for forced, turns in side.turns.items()
        }
        medians[side.name] = {forced: statistics.median(values) for forced, values in rates.items()}
        cells = [f"{statistics.median(v):.1f} ({min(v):.1f}-{max(v):.1f})" for v in rates.values()]
        print(f"| {side.name} | {' | '.join(cells)} |")
    for peer in ("opennmt", "port", "port+256"):
        rivals = [name for name in medians if name == peer or (peer == "opennmt" and name.startswith(peer))]
        if not rivals:
            continue
        for name in medians:
            if name.startswith("precis"):
                ratios = [
                    medians[name][f] / max(medians[rival][f] for rival in rivals) for f in (True, False)
                ]
                print(
                    f"{name} : best {peer}: {ratios[0]:.2f} forced, {ratios[1]:.2f} ending as references do"
                )
    if "precis@64" in medians:
        rate = medians["precis@64"][True] * FORCED_LIMIT_FLOPS / 1e9
        print(f"the vocabulary product alone, forced, in full precision: {rate:.0f} GFLOP/s")


if __name__ == "__main__":
    main()
