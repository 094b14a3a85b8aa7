"""The same rows byte for byte, whether this process prepares them or a Ray cluster does."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest import contents, run_stage, write_model, write_params

pytest.importorskip("ray", reason="the extra `ray` is not installed")


def elsewhere(prepared_here, folder, **execution):
    """A folder with the raw corpus of `prepared_here`, and nothing made of it."""
    shutil.copytree(prepared_here / "data/raw", folder / "data/raw")
    write_params(folder, **execution)
    return folder


def test_ray_prepares_and_encodes_the_same_bytes(prepared_here, tmp_path):
    folder = elsewhere(prepared_here, tmp_path, engine="ray", workers=2, cpus_per_worker=0.5)
    for stage in ("prepare", "vocabulary", "encode"):
        done = run_stage(stage, folder)
        assert done.returncode == 0, done.stderr
        assert "Dataset" not in done.stdout + done.stderr  # Ray Data's own talk
    assert contents(folder) == contents(prepared_here)


def test_a_pool_of_models_writes_the_same_summaries_and_scores(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    write_model(here, num_rows=600)  # ten windows, for two processes and for two actors
    shutil.copytree(here, there)
    write_params(here, engine="local")
    write_params(there, engine="ray", workers=2, cpus_per_worker=0.5)
    for folder in (here, there):
        done = run_stage("evaluate", folder, "--model", "pointer")
        assert done.returncode == 0, done.stderr
    assert (here / "reports/pointer/summaries.jsonl").read_text().count("\n") == 600
    assert contents(there) == contents(here)


def test_an_address_where_nobody_answers_is_one_message(prepared_here, tmp_path):
    folder = elsewhere(prepared_here, tmp_path, engine="ray", address="127.0.0.1:1")
    done = run_stage("prepare", folder)
    assert done.returncode == 75, done.stderr
    assert "execution.address is '127.0.0.1:1'" in done.stderr and "precis cluster up" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "data/prepared").exists()
