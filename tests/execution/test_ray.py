"""The same rows byte for byte, whether this process prepares them or a Ray cluster does."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conftest import contents, run_stage, write_params

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


def test_an_address_where_nobody_answers_is_one_message(prepared_here, tmp_path):
    folder = elsewhere(prepared_here, tmp_path, engine="ray", address="127.0.0.1:1")
    done = run_stage("prepare", folder)
    assert done.returncode == 75, done.stderr
    assert "execution.address is '127.0.0.1:1'" in done.stderr and "precis cluster up" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "data/prepared").exists()
