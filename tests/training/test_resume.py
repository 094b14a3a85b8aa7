"""A training that is killed and started again ends in the same bytes as one that was left alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import small_training
import torch

from precis.errors import PrecisError
from precis.training.system import SummarizationSystem

COVERAGE = '{"coverage": true}'
SMALL_TRAINING = Path(__file__).with_name("small_training.py")


def start(directory: Path, *arguments: str) -> subprocess.Popen:
    directory.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{directory / 'mlflow.db'}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, SMALL_TRAINING, directory, *arguments],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_update(directory: Path, update: int, process: subprocess.Popen, folder: str = "work") -> None:
    deadline = time.monotonic() + 250
    while not any(int(path.stem) >= update for path in (directory / folder).glob("*.ckpt")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"no checkpoint at update {update}"
        time.sleep(0.005)


def finish(directory: Path, *arguments: str) -> str:
    _, errors = (process := start(directory, *arguments)).communicate(timeout=200)
    assert process.returncode == 0, errors
    return errors


def points(directory: Path) -> dict[tuple[str, int], float]:
    lines = (directory / "work" / "metrics.jsonl").read_text().splitlines()
    return {(name, step): value for name, value, _, step in map(json.loads, lines)}


def recorded_points(directory: Path) -> list[tuple[str, int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{directory / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    history = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    return sorted((metric.key, metric.step, metric.value) for metrics in history for metric in metrics)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("undisturbed")
    finish(directory)
    return directory


def assert_same_training(directory: Path, undisturbed: Path) -> None:
    for name in ("best/model.safetensors", "best/model.json"):
        assert (directory / "work" / name).read_bytes() == (undisturbed / "work" / name).read_bytes()
    ours, theirs = (
        torch.load(sorted((path / "work").glob("*.ckpt"))[-1], weights_only=True)
        for path in (directory, undisturbed)
    )
    assert str(ours["state_dict"]) == str(theirs["state_dict"])
    torch.testing.assert_close(
        ours["optimizer_states"][0]["state"], theirs["optimizer_states"][0]["state"], rtol=0, atol=0
    )
    assert points(directory) == points(undisturbed)
    expected = sorted((name, step, value) for (name, step), value in points(undisturbed).items())
    assert recorded_points(undisturbed) == expected
    assert recorded_points(directory) == expected


def test_a_training_that_was_killed_and_terminated_ends_in_the_same_bytes(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for_update(tmp_path, 17, process)
    process.kill()
    process.wait()

    process = start(tmp_path)
    wait_for_update(tmp_path, 35, process)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, errors
    stopped_at = max(int(path.stem) for path in (tmp_path / "work").glob("*.ckpt"))

    errors = finish(tmp_path)
    assert f"going on from update {stopped_at} of 60" in errors
    assert_same_training(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("name", "consistency_weight"), [("attention", 0.0), ("pointer", 0.0), ("pointer", 3.0)]
)
def test_wherever_it_is_killed_a_training_goes_on_to_the_same_bytes(
    tmp_path, monkeypatch, name, consistency_weight
):
    """In the middle of the first epoch of 12 updates, at its end, and in the middle of the second.

    Meanwhile the clock is put back by a day, so that the newest checkpoint has the oldest time.
    """
    settings = {
        "model_name": name,
        "max_epochs": 2,
        "checkpoint_every_updates": 1,
        "consistency_weight": consistency_weight,
    }
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'undisturbed.db'}")
    small_training.run(made(tmp_path / "undisturbed"), **settings)
    for update in (5, 12, 17):
        folder = made(tmp_path / str(update))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        process = os.fork()  # of its own, without the seconds that starting Python takes
        if process == 0:
            SummarizationSystem.on_train_batch_start = kill_oneself_at(update)
            small_training.run(folder, **settings)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
        yesterday = time.time() - 86_400
        os.utime(max((folder / "work").glob("*.ckpt")), (yesterday, yesterday))
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda then=yesterday: then)
            small_training.run(folder, **settings)
        assert bytes_of_all(folder) == bytes_of_all(tmp_path / "undisturbed"), f"killed at {update}"
        assert points(folder) == points(tmp_path / "undisturbed")


def kill_oneself_at(update):
    def on_train_batch_start(system, *_):
        if system.global_step == update:
            os.kill(os.getpid(), signal.SIGKILL)

    return on_train_batch_start


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def bytes_of_all(folder: Path) -> dict[str, bytes]:
    """Of the best model, and of all that the last checkpoint holds but times."""
    found = {"best": (folder / "work/best/model.safetensors").read_bytes()}

    def collect(path, value):
        if isinstance(value, torch.Tensor):
            found[path] = value.numpy().tobytes()
        elif isinstance(value, dict):
            for key, part in value.items():
                collect(f"{path}.{key}", part)
        elif isinstance(value, list | tuple):
            for place, part in enumerate(value):
                collect(f"{path}.{place}", part)
        elif not path.endswith("seconds"):
            found[path] = repr(value).encode()

    collect("checkpoint", torch.load(sorted((folder / "work").glob("*.ckpt"))[-1], weights_only=True))
    assert any("optimizer_states" in path for path in found) and any("random_state" in path for path in found)
    assert any("lr_schedulers" in path for path in found) and any("num_worse" in path for path in found)
    return found


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path, undisturbed):
    process = start(tmp_path)
    wait_for_update(tmp_path, 27, process)
    process.kill()
    process.wait()
    before, newest = sorted((tmp_path / "work").glob("*.ckpt"))[-2:]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)

    errors = finish(tmp_path)
    assert f"{newest} is damaged and not used: going on from {before.name}" in errors
    assert_same_training(tmp_path, undisturbed)


def test_a_training_killed_in_its_coverage_phase_goes_on_there(tmp_path):
    finish(tmp_path / "undisturbed", COVERAGE)
    disturbed = tmp_path / "disturbed"
    process = start(disturbed, COVERAGE)
    wait_for_update(disturbed, 19, process, "work/coverage")
    process.kill()
    process.wait()

    errors = finish(disturbed, COVERAGE)
    assert "pointer with coverage: going on from update" in errors
    assert "pointer: going on" not in errors, "the first phase was done"
    for phase in ("plain", "coverage"):
        for name in ("best/model.safetensors", "best/model.json"):
            path = Path("work") / phase / name
            assert (disturbed / path).read_bytes() == (tmp_path / "undisturbed" / path).read_bytes()
    options = json.loads((disturbed / "work" / "coverage" / "best" / "model.json").read_text())["options"]
    assert options["coverage_on"] is True
    assert points(disturbed) == points(tmp_path / "undisturbed")


@pytest.mark.parametrize(("phase", "update"), [("documents", 5), ("plain", 19)])
def test_a_training_killed_with_pretraining_goes_on_where_it_was(tmp_path, phase, update):
    pretraining = '{"pretraining": true, "coverage": true, "max_epochs": 3}'
    finish(tmp_path / "undisturbed", pretraining)
    disturbed = tmp_path / "disturbed"
    process = start(disturbed, pretraining)
    wait_for_update(disturbed, update, process, f"work/{phase}")
    process.kill()
    process.wait()

    errors = finish(disturbed, pretraining)
    assert errors.count("going on from update") == 1
    for path in ("documents/best", "plain/best", "coverage/best"):
        weights = Path("work") / path / "model.safetensors"
        assert (disturbed / weights).read_bytes() == (tmp_path / "undisturbed" / weights).read_bytes()
    assert points(disturbed) == points(tmp_path / "undisturbed")


def test_pretraining_begins_the_training_and_takes_part_of_its_minutes(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    alone = small_training.run(tmp_path / "alone", max_epochs=1)
    both = small_training.run(tmp_path / "both", pretraining=True, max_epochs=1)
    assert both.num_updates == alone.num_updates + 2 * 7  # 50 rows, 8 in a batch, twice
    steps = [step for name, step in points(tmp_path / "both") if name == "validation_loss"]
    assert len(steps) == len(set(steps)) and max(steps) == both.num_updates
    short = small_training.run(tmp_path / "short", pretraining=True, max_epochs=1, max_minutes=1e-4)
    assert short.num_updates < both.num_updates


def test_a_best_model_that_is_damaged_is_not_taken_for_the_result(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    small_training.run(tmp_path, max_epochs=1, learning_rate=0.0)  # so that no later validation is better
    weights = tmp_path / "work/best/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PrecisError, match=r"(?s)model.safetensors.*to train anew"):
        small_training.run(tmp_path, max_epochs=1, learning_rate=0.0)
