"""A cluster of several nodes on this machine, and one of them killed in the middle."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from project import Project

from conftest import contents, run_stage, write_corpus, write_model, write_params

pytest.importorskip("ray", reason="the extra `ray` is not installed")

PRECIS = Path(sys.executable).with_name("precis")


@contextmanager
def cluster(nodes):
    """Start `precis cluster up`; give its process and the address that it printed."""
    process = subprocess.Popen(
        [PRECIS, "cluster", "up", "--nodes", str(nodes)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"execution: \{engine: ray, address: '([\d.]+:\d+)'\}\n", line)
        assert found, line
        yield process, found[1]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def raylets(process):
    """Process ids of the cluster's nodes, the head first."""
    command = ["pgrep", "-P", str(process.pid), "-f", "raylet/raylet"]
    return [int(pid) for pid in subprocess.run(command, capture_output=True, text=True).stdout.split()]


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_node_killed_in_the_middle_of_prepare_loses_nothing(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    write_corpus(here / "corpus.jsonl", num_rows=40_000)
    write_params(here, engine="local")
    for stage in ("download", "prepare"):
        done = run_stage(stage, here)
        assert done.returncode == 0, done.stderr
    shutil.copytree(here / "data/raw", there / "data/raw")
    with cluster(nodes=3) as (process, address):
        write_params(there, engine="ray", address=address)
        stage = subprocess.Popen(
            [sys.executable, "-m", "precis.stages.prepare"], cwd=there, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 200
        while not is_writing(there) and time.monotonic() < deadline:
            assert stage.poll() is None, stage.communicate()[1]
            time.sleep(0.02)
        assert stage.poll() is None, "too fast to be killed in the middle"
        nodes = raylets(process)
        assert len(nodes) == 3
        os.kill(nodes[-1], signal.SIGKILL)
        message = stage.communicate(timeout=400)[1]
        assert stage.returncode == 0, message
    assert contents(there) == contents(here)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_node_killed_in_the_middle_of_evaluate_loses_nothing(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    write_model(here, num_rows=2_000)
    shutil.copytree(here, there)
    write_params(here, engine="local")
    done = run_stage("evaluate", here, "--model", "pointer", timeout=600)
    assert done.returncode == 0, done.stderr
    with cluster(nodes=3) as (process, address):
        write_params(there, engine="ray", address=address)
        command = [sys.executable, "-m", "precis.stages.evaluate", "--model", "pointer"]
        stage = subprocess.Popen(command, cwd=there, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 400
        while not has_summaries(there) and time.monotonic() < deadline:
            assert stage.poll() is None, stage.communicate()[1]
            time.sleep(0.02)
        assert stage.poll() is None, "too fast to be killed in the middle"
        nodes = raylets(process)
        assert len(nodes) == 3
        os.kill(nodes[-1], signal.SIGKILL)
        message = stage.communicate(timeout=600)[1]
        assert stage.returncode == 0, message
    assert contents(there) == contents(here)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_cluster_of_three_nodes_runs_the_whole_pipeline(tmp_path):
    project = Project(tmp_path / "tickets", num_rows=900)
    project.keep_only("pointer")
    project.set_params({"prepare": {"checks": {"near_duplicate": {"max_share": 1.0}}}})
    with cluster(nodes=3) as (_, address):
        project.set_params({"execution": {"engine": "ray", "address": address}})
        stages = project.run("dvc", "stage", "list", "--name-only").stdout.split()
        done = project.run("dvc", "repro", timeout=1_500)
        assert all(f"Running stage '{stage}'" in done.stdout for stage in stages)
    assert "| pointer |" in (project.folder / "reports/comparison.md").read_text()
    there = contents(project.folder)
    project.set_params({"execution": {"engine": "local", "address": None}})
    for stage in ("download", "prepare", "vocabulary", "encode"):
        project.run(sys.executable, "-m", f"precis.stages.{stage}")
    project.run(sys.executable, "-m", "precis.stages.evaluate", "--model", "pointer")
    assert contents(project.folder) == there


def has_summaries(folder):
    """Whether the first summaries have arrived."""
    return any(path.stat().st_size for path in (folder / "reports/pointer").glob(".summaries*"))


def is_writing(folder):
    """Whether the first rows of the training split have arrived."""
    return any(path.stat().st_size > 4 for path in (folder / "data").glob(".prepared.*/train.parquet"))


def test_cluster_says_what_is_wrong_with_its_options():
    done = subprocess.run([PRECIS, "cluster", "up", "--nodes", "0"], capture_output=True, text=True)
    assert done.returncode == 2 and "--nodes" in done.stderr and "Traceback" not in done.stderr
