"""The service and the batch command, with clients that ask again at once, beside OpenNMT-py on the same machine.

    python benchmarks/serve_speed.py --rounds 3

Every side has the pointer model of decode_speed.py with random weights, beam 4 and 16 forced steps, and is given 1, 2
and 8 documents at a time: precis over HTTP by as many clients with one document each, OpenNMT-py's translator as one
batch, in its own process, without HTTP and its documents already cut into words and numbers. Sides take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from serve_model import (
    PRECIS,
    Connection,
    Server,
    bodies_of,
    cpu_seconds,
    quantiles,
    texts_of,
    workload_of,
    write_model,
)
from train_speed import WORK, opennmt_python

CLIENTS = (1, 2, 8)
HERE = Path(__file__).resolve().parent


async def ask(server: Server, bodies: list[bytes], clients: int) -> dict[str, float]:
    """Every document once, by so many clients."""
    before = server.cpu()
    took: list[float] = []
    waiting = list(bodies)

    async def client() -> None:
        connection = Connection(server.port)
        while waiting:
            body = waiting.pop()
            asked = time.perf_counter()
            status, answer = await connection.post(body)
            took.append(time.perf_counter() - asked)
            assert status == 200, answer
        connection.close()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = len(bodies) / (time.perf_counter() - start)
    return {**quantiles(took), "rate": rate, "cpu": (server.cpu() - before) / len(bodies)}


class Peer:
    """OpenNMT-py's translator in a process; see serve_peer.py."""

    def __init__(self, workload: Path) -> None:
        self._process = subprocess.Popen(
            [opennmt_python(), "-W", "ignore", HERE / "serve_peer.py", workload],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(WORK / "serve-peer.log").open("w"), text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._answer()

    def ask(self, size: int) -> dict[str, float]:
        """Every document once, so many at a time."""
        assert self._process.stdin is not None
        before = cpu_seconds(self._process.pid)
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        took, documents = self._answer()
        cpu = cpu_seconds(self._process.pid) - before
        return {**quantiles(took), "rate": documents / sum(took), "cpu": cpu / documents}

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"OpenNMT-py ended early; see {WORK / 'serve-peer.log'}")
        return json.loads(line)


def batch_command(model: Path, texts: list[str], times: int) -> dict[str, float]:
    """`precis summarize` without its start: the difference of a long and a short run."""
    seconds, cpu = [], []
    for number in (1, times):
        lines = "\n".join(json.dumps({"document": text}) for text in texts * number)
        start, used = time.perf_counter(), os.times()
        subprocess.run(
            [PRECIS, "summarize", "--jsonl", "--model", model, "--threads", "1", "-"],
            input=lines, text=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        seconds.append(time.perf_counter() - start)
        now = os.times()
        cpu.append(now.children_user - used.children_user + now.children_system - used.children_system)
    documents = len(texts) * (times - 1)
    return {"rate": documents / (seconds[1] - seconds[0]), "cpu": (cpu[1] - cpu[0]) / documents}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, help="JSON Lines; without: drawn by chance")
    parser.add_argument("--documents", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    workload = workload_of(arguments.corpus, arguments.documents)
    workload.save(WORK / "serve.json")
    texts = texts_of(workload)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="precis-speed-") as folder:
        model = write_model(workload, Path(folder) / "model")
        server = Server(model, Path(folder) / "log", "--workers", "1", "--threads", "1")
        peer = Peer(WORK / "serve.json")
        asyncio.run(ask(server, bodies_of(texts[:16]), 2))
        peer.ask(8)
        for _ in range(arguments.rounds):
            for clients in CLIENTS:
                one = asyncio.run(ask(server, bodies_of(texts), clients))
                found.setdefault(f"precis serve, {clients} clients", []).append(one)
                found.setdefault(f"OpenNMT-py, {clients} at a time", []).append(peer.ask(clients))
                print({name: rounds[-1] for name, rounds in found.items()}, file=sys.stderr, flush=True)
            found.setdefault("precis summarize", []).append(batch_command(model, texts, 3))
        peer.stop()
        assert server.stop() == 143
    print(
        "| one thread | p50, ms | p95, ms | documents/s | CPU ms a document |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name, rounds in sorted(found.items(), reverse=True):
        middle = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        shown = [f"{middle[key]:.0f}" if key in middle else "" for key in ("p50", "p95")]
        rates = sorted(one["rate"] for one in rounds)
        rate = f"{middle['rate']:.1f} ({rates[0]:.1f}-{rates[-1]:.1f})"
        print(f"| {name} | {shown[0]} | {shown[1]} | {rate} | {1000 * middle['cpu']:.1f} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
