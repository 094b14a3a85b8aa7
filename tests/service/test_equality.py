"""The same text has the same summary, whoever is asked."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import Running
from tiny_model import DECODING, DOCUMENTS
from tiny_registry import Registry

from precis.params import EvaluationParams
from precis.serving.summarizer import Summarizer
from precis.stages.evaluate import evaluate

TEXTS = [f"{DOCUMENTS[number % 4]} Number n{number} is here." for number in range(40)]
SETTINGS = EvaluationParams(
    seed=1,
    threads=1,
    processes=1,
    batch_size=4,
    stemmer=True,
    summary_level="newline",
    references="best",
    tokenizer="unicode",
    resamples=100,
    confidence=0.95,
    length_buckets=[10, 20],
    baseline_sentences=1,
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        registry = Registry(folder)
        registry.promote(registry.add(1))
        yield registry


@pytest.fixture(scope="module")
def evaluated(registry, tmp_path_factory) -> list[str]:
    """What `evaluate` writes into summaries.jsonl."""
    root = tmp_path_factory.mktemp("reports")
    columns = {"id": [f"d{i}" for i in range(len(TEXTS))], "document": TEXTS, "summary": TEXTS}
    pq.write_table(pa.table(columns), root / "test.parquet")
    evaluate(registry.models[1], root / "test.parquet", root / "out", decoding=DECODING, settings=SETTINGS)
    rows = map(json.loads, (root / "out" / "summaries.jsonl").read_text(encoding="utf-8").splitlines())
    summaries = {row["id"]: row["summary"] for row in rows}
    return [summaries[f"d{i}"] for i in range(len(TEXTS))]


def test_served_summaries_are_those_of_the_summarizer_and_of_evaluate(registry, evaluated):
    assert len(set(evaluated)) > 10
    assert [summary.text for summary in Summarizer.load(registry.models[1]).summarize(TEXTS)] == evaluated
    with Running() as server:
        together = []
        for start in range(0, len(TEXTS), 16):
            answer = server.summarize(documents=TEXTS[start : start + 16]).json
            together += [summary["summary"] for summary in answer["summaries"]]
        assert together == evaluated
        alone = [server.summarize(document=text).json["summaries"][0]["summary"] for text in TEXTS]
        assert alone == evaluated


@pytest.mark.slow
def test_mlflow_models_serve_gives_the_same(registry, evaluated):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(sys.executable).parent
    command = ["mlflow", "models", "serve", "-m", "models:/precis@champion", "-p", str(port)]
    server = subprocess.Popen(
        [folder / command[0], *command[1:], "--env-manager", "local"],
        env={**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": TEXTS}).encode(),
            {"Content-Type": "application/json"},
        )
        deadline = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    assert json.load(answer)["predictions"] == evaluated
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(1)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
