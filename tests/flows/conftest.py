"""A small DVC repository that a flow can run, and the flows on the path."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = Path(__file__).resolve().parents[2] / "flows"
sys.path.insert(0, str(FLOWS))

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

# declared against the order in which they run
GRAPH = """\
stages:
  report:
    cmd: mkdir -p reports && cat small.txt large.txt > reports/comparison.md
    deps: [small.txt, large.txt]
    outs: [reports/comparison.md]
  train:
    matrix:
      model: [small, large]
    cmd: cat raw.txt > ${item.model}.txt && echo trained ${item.model}
    deps: [raw.txt]
    outs: ["${item.model}.txt"]
  download:
    cmd: echo "| results |" > raw.txt
    outs: [raw.txt]
"""


@pytest.fixture
def make_repository(tmp_path):
    """A function from the text of a dvc.yaml to the folder of a fresh repository with it."""

    def make(graph: str) -> Path:
        root = tmp_path / "repository"
        root.mkdir()
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)
        (root / "dvc.yaml").write_text(graph)
        return root

    return make


@pytest.fixture
def repository(make_repository):
    """Three stages, four runs: download, train@small, train@large, report."""
    return make_repository(GRAPH)


@pytest.fixture(scope="session")
def server():
    """A Prefect server for all tests of this process."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=150):
        yield


@pytest.fixture
def unused_port():
    """A port that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
