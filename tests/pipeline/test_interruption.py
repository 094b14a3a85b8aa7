"""A stage that is stopped is still to do, and leaves nothing that a later stage would read."""

import os
import signal
import time

import pytest
from project import Project

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("interrupted") / "tickets", num_rows=200)
    project.set_params({"train": {"max_epochs": 2_000, "patience": 2_000, "checkpoint_every_updates": 5}})
    project.repro("encode")
    return project


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_stopped_is_still_to_do(project, number):
    process = project.start("dvc", "repro", "train@pointer")
    deadline = time.monotonic() + 120
    while not list(project.folder.glob(".work/train/pointer/**/*.ckpt")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0, output
    assert not (project.folder / "models" / "pointer").exists()
    status = project.run("dvc", "status", "train@pointer").stdout
    assert "models/pointer" in status
    assert "deleted" in status
