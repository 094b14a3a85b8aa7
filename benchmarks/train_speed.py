"""Training speed: precis, OpenNMT-py 3.5.1 and a per-step port of See et al. (2017), side by side.

    python benchmarks/train_speed.py --corpus PATH/train.jsonl

Every side is a process of its own and trains on the same rows in the same batches, with the same vocabulary,
sizes, optimizer, clipping and number of threads. They take turns: a round is one turn of each. Figures are
medians over the rounds, tokens are source and target words without padding. With one thread, the clock is CPU
time, so that other work on the machine disturbs less; with more it is wall time, and the machine should be idle.

Rows are in random order, so that lengths differ within a batch. With `--pool 4000` each 4,000 rows are sorted by
length before they are cut into batches, as OpenNMT-py does it by itself: then most rows of a batch are equally
long, and a packed encoder has little to lose.

OpenNMT-py gets an environment of its own in .work/benchmarks, made at the first run. All tensors are made
beforehand: no loader is in the time. Without a corpus the pairs are drawn by chance with the lengths of e-mails
and their subjects.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from speed_data import Sizes, Workload, make_workload, read_pairs, synthetic_pairs

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".work" / "benchmarks"
OPENNMT_EXTRAS = (
    "configargparse pyyaml six rapidfuzz sacrebleu pyahocorasick pyonmttok ctranslate2 tensorboard flask "
    "waitress"
)

COMPARISONS = [  # precis, peer, least ratio asked for
    ("precis:general+copy", "opennmt:general+copy", 2.5),
    ("precis:general+copy+tied", "opennmt:general+copy", None),
    ("precis:general", "opennmt:general+nofeed", None),  # it copies with input feeding only
    ("precis:additive+copy", "opennmt:mlp+copy", 3.0),
    ("precis:general+copy+coverage", "opennmt:general+copy+coverage", 2.5),
    ("precis:additive+copy+coverage", "opennmt:mlp+copy+coverage", 2.5),
    ("precis:additive+copy+coverage+see2017", "port+coverage", 2.5),
    ("precis:additive+copy+coverage+see2017+feeding", "port+coverage", None),
]


def opennmt_python() -> Path:
    """The interpreter of OpenNMT-py's environment; makes it if need be."""
    folder = WORK / "opennmt"
    python, stamp = folder / "bin" / "python", folder / "complete"
    if not stamp.exists():
        print("making OpenNMT-py's environment ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        for arguments in ("torch==2.13.0", "--no-deps OpenNMT-py==3.5.1", OPENNMT_EXTRAS):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments.split()], check=True)
        stamp.touch()
    return python


class Side:
    """A process that trains when it is told to."""

    def __init__(self, name: str, workload: Path, threads: int) -> None:
        python = opennmt_python() if name.startswith("opennmt") else Path(sys.executable)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
        log = (WORK / f"{name.replace(':', '-')}.log").open("w")
        self.name = name
        self.rounds: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [python, HERE / "speed_worker.py", workload, name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment,
        )  # fmt: skip
        self._answer()

    def run(self, first: int, number: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"first": first, "number": number}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def profile(self, first: int, number: int) -> list[tuple[str, float]]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"first": first, "number": number, "profile": True}) + "\n")
        self.process.stdin.flush()
        return self._answer()["profile"]

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended early; see {WORK}/{self.name.replace(':', '-')}.log")
        return json.loads(line)


def flops(workload: Workload, first: int, number: int, side: str) -> float:
    """Floating-point operations of products that the updates need, without padding, forward and backward."""
    sizes = workload.sizes
    decoder = sizes.hidden * (1 if "see2017" in side else 2)
    readout = sizes.embedding if "tied" in side else decoder
    states = 2 * sizes.hidden
    total = 0.0
    for batch in workload.batches[first : first + number]:
        source = sum(len(pair[0]) for pair in batch)
        target = sum(len(pair[1]) + 1 for pair in batch)
        pairs = sum(len(pair[0]) * (len(pair[1]) + 1) for pair in batch)
        total += source * 2 * 4 * sizes.hidden * (sizes.embedding + sizes.hidden)
        total += target * 4 * decoder * (sizes.embedding + decoder)
        total += pairs * states * 2 + target * decoder * states
        total += source * states * states if "additive" in side else 0
        total += target * (decoder + states) * readout + target * readout * sizes.vocabulary
    return 6 * total  # a multiplication and an addition, and the backward pass twice the forward one


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--corpus", type=Path, help="JSON Lines with document and summary; without: drawn by chance"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=8, help="of each side in a round")
    parser.add_argument("--warm-up", type=int, default=4, help="updates before the first round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=20_000)
    parser.add_argument("--hidden", type=int, default=128, help="of one direction")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument(
        "--pool", type=int, default=0, help="rows that are sorted by length at a time; 0: none"
    )
    parser.add_argument("--only", default="", help="comparisons whose names hold this text")
    arguments = parser.parse_args()

    pool = max(arguments.pool, arguments.batch)
    sizes = Sizes(arguments.vocabulary, 128, arguments.hidden, 200, 16, arguments.batch, pool)
    pairs = read_pairs(arguments.corpus) if arguments.corpus else synthetic_pairs(14_000, seed=1)
    number = arguments.warm_up + arguments.rounds * arguments.updates
    workload = make_workload(pairs, sizes, number, seed=1)
    WORK.mkdir(parents=True, exist_ok=True)
    path = WORK / "workload.json"
    workload.save(path)
    tokens = workload.num_tokens()
    comparisons = [entry for entry in COMPARISONS if arguments.only in f"{entry[0]} {entry[1]}"]
    names = list(dict.fromkeys(name for entry in comparisons for name in entry[:2]))
    sides = {name: Side(name, path, arguments.threads) for name in ["gemm", *names]}
    try:
        for name in names:
            sides[name].run(0, arguments.warm_up)
        for turn in range(arguments.rounds):
            first = arguments.warm_up + turn * arguments.updates
            for side in sides.values():
                answer = side.run(first, 1 if side.name == "gemm" else arguments.updates)
                seconds = answer["cpu" if arguments.threads == 1 else "wall"]
                answer["speed"] = sum(tokens[first : first + arguments.updates]) / seconds
                answer["gflops"] = flops(workload, first, arguments.updates, side.name) / seconds / 1e9
                side.rounds.append(answer)
        profiled = next(name for name in names if name.startswith("precis"))
        profile = sides[profiled].profile(arguments.warm_up, arguments.updates)
    finally:
        for side in sides.values():
            side.stop()

    peak = statistics.median(answer["last"] for answer in sides["gemm"].rounds)
    lengths = [len(pair[0]) for batch in workload.batches for pair in batch]
    padded = sum(max(len(pair[0]) for pair in batch) * len(batch) for batch in workload.batches)
    corpus = "given" if arguments.corpus else "drawn by chance"
    print(f"corpus: {corpus}; {len(workload.batches)} batches of {sizes.batch}, "
          f"sources of {min(lengths)} to {max(lengths)} words, mean {statistics.mean(lengths):.0f}, "
          f"{sum(lengths) / padded:.0%} of the padded positions are words")  # fmt: skip
    clock = "CPU time of one thread" if arguments.threads == 1 else f"wall time, {arguments.threads} threads"
    print(f"{arguments.rounds} alternating rounds of {arguments.updates} updates; {clock}; "
          f"vocabulary {sizes.vocabulary}, embedding {sizes.embedding}, hidden {sizes.hidden} per direction; "
          f"product of 1024x1024 matrices: {peak:.0f} GFLOP/s")  # fmt: skip
    print("\n| side | tokens/s | peak memory, MB | of it training, MB | GFLOP/s | of the peak |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        rounds = sides[name].rounds
        speed, gflops = (statistics.median(answer[key] for answer in rounds) for key in ("speed", "gflops"))
        memory, before = rounds[-1]["memory"], rounds[-1]["memory_before"]
        share = f"{gflops:.0f} | {gflops / peak:.0%}" if name.startswith("precis") else "|"
        print(f"| {name} | {speed:,.0f} | {memory:,.0f} | {memory - before:,.0f} | {share} |")
    print("\n| precis | peer | ratio, median (range) of rounds | asked for |")
    print("| --- | --- | --- | --- |")
    for ours, peer, least in comparisons:
        pairs_of_rounds = zip(sides[ours].rounds, sides[peer].rounds, strict=True)
        ratios = sorted(mine["speed"] / theirs["speed"] for mine, theirs in pairs_of_rounds)
        verdict = "" if least is None else f"{least}: {'yes' if statistics.median(ratios) >= least else 'NO'}"
        print(
            f"| {ours} | {peer} | {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}) | {verdict} |"
        )
    print(
        f"\nWhere the time of {profiled} goes, each operation's own share of its CPU time by torch's profiler:\n"
    )
    print(", ".join(f"{operation.removeprefix('aten::')} {share:.1%}" for operation, share in profile))


if __name__ == "__main__":
    main()
