"""A served model of a given size with random weights, and documents for it: only the time counts."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decode_worker import BEAMS, STEPS, _part
from speed_data import Sizes, Workload, make_workload, read_pairs, synthetic_pairs
from speed_worker import precis_step

from precis.models.storage import save_model
from precis.text.vocabulary import Vocabulary

SIZES = Sizes(20_000, 128, 128, 200, 16, 64, 64)  # those of decode_speed.py
PRECIS = Path(sys.executable).with_name("precis")


def workload_of(corpus: Path | None, documents: int) -> Workload:
    """Rows of a JSON Lines file, or drawn by chance."""
    pairs = read_pairs(corpus) if corpus else synthetic_pairs(4000, seed=1)
    return make_workload(pairs, SIZES, max(1, documents // SIZES.batch), seed=1)


def texts_of(workload: Workload) -> list[str]:
    """The sources as raw documents."""
    return [" ".join(source) for batch in workload.batches for source, _ in batch]


def write_model(workload: Workload, directory: Path) -> Path:
    """The pointer model of decode_speed.py as a folder; every summary has as many words as decode_speed forces."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    save_model(_part(precis_step(workload, "precis:general+copy"), "model").eval(), directory)
    count = len(workload.words)
    counts = range(count, 0, -1)
    Vocabulary(workload.words, counts, workload.words).save(directory / "shared.txt")
    decoding = {
        "beam_size": BEAMS, "min_length": STEPS - 1, "max_length": STEPS - 1, "length_penalty": "average",
        "length_alpha": 1.0, "coverage_penalty": "none", "coverage_beta": 0.0, "block_ngrams": 0,
        "block_exceptions": [], "banned_words": [], "frequent_words": 1000,
    }  # fmt: skip
    text = {"lowercase": True, "source_max_length": SIZES.source_max, "shared": True, "decoding": decoding}
    (directory / "text.json").write_text(json.dumps(text))
    (directory / "run.json").write_text(json.dumps({"fingerprint": "benchmark"}))
    return directory


class Server:
    """`precis serve` in a process, at a free port."""

    def __init__(self, model: Path, log: Path, *options: str) -> None:
        self._written = log.open("w")
        self.process = subprocess.Popen(
            [PRECIS, "serve", "--model", model, "--port", "0", *options],
            stdout=self._written, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        while (found := re.search(r"serves at http://[^:]+:(\d+)", log.read_text())) is None:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: {log.read_text()}")
            time.sleep(0.05)
        self.port = int(found[1])

    def resident(self) -> float:
        """Its memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def cpu(self) -> float:
        """Its CPU seconds so far."""
        return cpu_seconds(self.process.pid)

    def stop(self) -> int:
        """Its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._written.close()
        return code


class Connection:
    """One connection that is kept; the least that a client can be, so that the server has the machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """The status and the body of an answer; 0 if the connection failed.

        A connection that was kept may have been closed by the server in the meantime: if not a byte of an answer came,
        the request is sent once more over a new one, as every HTTP client does (RFC 9112, 9.3.1).
        """
        was_kept = self._streams is not None
        head = (
            f"POST /summarize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(head + body)
            headers = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).lower()
            found = re.search(rb"content-length: (\d+)", headers)
            assert found is not None
            answer = await reader.readexactly(int(found[1]))
            if b"connection: close" in headers:
                self.close()
            return int(headers[9:12]), answer
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.close()
            if was_kept and (
                isinstance(error, ConnectionError)
                or (isinstance(error, asyncio.IncompleteReadError) and not error.partial)
            ):
                return await self.post(body)
            return 0, b""

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bodies_of(texts: list[str]) -> list[bytes]:
    """Requests with one document each."""
    return [json.dumps({"document": text}).encode() for text in texts]


def quantiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    if not seconds:
        return {"p50": float("nan"), "p95": float("nan"), "p99": float("nan")}
    values: Any = np.quantile(seconds, [0.5, 0.95, 0.99]) * 1000
    return dict(zip(("p50", "p95", "p99"), values.round(1).tolist(), strict=True))
