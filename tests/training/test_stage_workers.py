"""The stage `train` with several workers, started by Lightning, torchrun and Ray: the model of one worker."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_project import start_stage, write_project

from precis.errors import PrecisError
from precis.params import load_params
from precis.stages.train import train_model

RAY = {"engine": "ray", "cpus_per_worker": 0.5}
NOT_NICE = {
    "RAY_worker_niceness": "0"
}  # Ray's workers give way to all others: they would starve on a busy machine


def curves(folder: Path) -> dict[tuple[str, int], float]:
    with (folder / "models/pointer/history.csv").open() as file:
        return {
            (name, int(row["step"])): float(row[name])
            for row in csv.DictReader(file)
            for name in ("train_loss", "validation_loss")
            if row[name]
        }


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory):
    """The folder of a training of one worker."""
    folder = write_project(tmp_path_factory.mktemp("one"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        train_model("pointer", load_params())
    return folder


def assert_finished_alike(folder: Path, one_worker: Path) -> None:
    ours, theirs = curves(folder), curves(one_worker)
    assert ours.keys() == theirs.keys() and ("train_loss", 100) in ours
    assert {key: pytest.approx(value, abs=1e-4) for key, value in theirs.items()} == ours
    assert (folder / "models/pointer/model.safetensors").exists()
    assert (folder / "models/pointer/model.json").read_bytes() == (
        one_worker / "models/pointer/model.json"
    ).read_bytes()


def finish(stage: subprocess.Popen[str]) -> str:
    errors = stage.communicate(timeout=560)[1]
    assert stage.returncode == 0, errors
    assert "Traceback" not in errors
    return errors


def wait_for_update(folder: Path, update: int, stage: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 250
    while not any(int(path.stem) >= update for path in folder.glob(".work/train/pointer/*/plain/*.ckpt")):
        assert stage.poll() is None, stage.communicate()[1]
        assert time.monotonic() < deadline, f"no checkpoint at update {update}"
        time.sleep(0.02)


def test_more_workers_than_rows_in_a_batch_are_refused(tmp_path):
    write_project(tmp_path, devices=5, num_nodes=2)
    with pytest.raises(PrecisError, match=r"devices 5 x num_nodes 2 are 10 workers, and batch_size 8"):
        load_params(tmp_path / "params.yaml")


def test_an_unknown_strategy_is_refused_with_those_there_are(tmp_path):
    write_project(tmp_path, strategy="fsdp")
    with pytest.raises(PrecisError, match=r"train.strategy: Input should be 'auto' or 'ddp', found 'fsdp'"):
        load_params(tmp_path / "params.yaml")


def test_several_machines_without_torchrun_are_told_how_to_start(tmp_path, monkeypatch):
    monkeypatch.chdir(write_project(tmp_path, num_nodes=2))
    with pytest.raises(PrecisError, match=r"train.num_nodes is 2.*torchrun"):
        train_model("pointer", load_params())


@pytest.mark.slow
def test_lightning_starts_two_workers(tmp_path, one_worker):
    errors = finish(start_stage(write_project(tmp_path, devices=2)))
    assert errors.count("best validation loss") == 1, "one worker speaks"
    assert_finished_alike(tmp_path, one_worker)


@pytest.mark.slow
def test_torchrun_starts_two_workers_whatever_the_parameters_say(tmp_path, one_worker):
    torchrun = Path(sys.executable).with_name("torchrun")
    errors = finish(start_stage(write_project(tmp_path), torchrun, "--standalone", "--nproc-per-node", "2"))
    assert "torchrun started 2 workers" in errors
    assert_finished_alike(tmp_path, one_worker)


@pytest.mark.timeout(600)
def test_ray_starts_two_workers(tmp_path, one_worker):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    errors = finish(start_stage(write_project(tmp_path, devices=2, execution=RAY), **NOT_NICE))
    assert errors.count("best validation loss") == 1, errors
    assert_finished_alike(tmp_path, one_worker)
    assert not (tmp_path / ".work/train/pointer/ray").exists()


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_ray_starts_lost_workers_again(tmp_path, one_worker):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    stage = start_stage(write_project(tmp_path, devices=2, execution=RAY), **NOT_NICE)
    wait_for_update(tmp_path, 8, stage)
    os.kill(ray_workers(stage.pid)[-1], signal.SIGKILL)
    errors = finish(stage)
    assert "going on from update" in errors
    assert_finished_alike(tmp_path, one_worker)


def ray_workers(stage: int) -> list[int]:
    """Process ids of the training's workers on the cluster that this stage started."""
    found = []
    waiting = [stage]
    while waiting:
        children = subprocess.run(["pgrep", "-P", str(waiting.pop())], capture_output=True, text=True)
        for child in map(int, children.stdout.split()):
            waiting.append(child)
            title = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
            if b"RayTrainWorker" in title:
                found.append(child)
    assert len(found) == 2, found
    return sorted(found)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_worker_on_ray_finds_wrong_is_one_message_and_no_new_attempt(tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    write_project(tmp_path, execution=RAY)
    (tmp_path / "data/encoded/validation.arrow").unlink()
    stage = start_stage(tmp_path, **NOT_NICE)
    errors = stage.communicate(timeout=560)[1]
    assert stage.returncode == 1 and errors.startswith("error: ") and "validation.arrow" in errors, errors
    assert errors.count("\n") < 4 and not (tmp_path / "models").exists()
