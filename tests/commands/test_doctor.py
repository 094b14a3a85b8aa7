import fcntl
import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from precis.commands.doctor import CHECKS
from precis.registry import promotion
from precis.registry.versions import make_version
from precis.training import tracking
from precis.training.parcels import Parcel

doctor = import_module("precis.commands.doctor")  # the module, not its function


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def problems(name, root):
    return list(CHECKS[name](root))


def test_a_package_that_is_not_the_pinned_one_is_named(root):
    (root / "constraints.txt").write_text(
        "# pins\ntyper==0.0.1\nnumpy==0.0.2 ; python_full_version < '3'\npydantic==999 ; python_full_version > '3'\n"
    )
    (problem,) = problems("environment", root)
    assert "typer is" in problem.found and "pinned to 0.0.1" in problem.found
    assert "pinned to 999" in problem.found
    assert "numpy" not in problem.found


def test_a_run_that_nobody_works_on_is_found_and_closed(root):
    client = tracking.configure()
    run = client.create_run(client.create_experiment("e"), run_name="pointer")
    (problem,) = problems("runs", root)
    assert "run pointer" in problem.found and "no training is at work" in problem.found
    problem.apply()
    assert client.get_run(run.info.run_id).info.status == "KILLED"
    assert problems("runs", root) == []


def test_figures_that_mlflow_did_not_take_are_told_and_sent(root):
    parcel = Parcel(root / ".work/train/pointer/0")
    parcel.directory.mkdir(parents=True)
    run = {"experiment": "e", "name": "pointer", "params": {}, "tags": {}, "datasets": []}
    parcel.write_head("0" * 64, run)
    parcel.add_points("metrics.jsonl", {"loss": 2.0}, 1)
    parcel.end("FINISHED")
    client = tracking.configure()
    (problem,) = problems("runs", root)
    assert "1 figures and 0 files wait for MLflow in .work/train/pointer/0" in problem.found
    problem.apply()
    (stored,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert stored.data.metrics == {"loss": 2.0}
    assert problems("runs", root) == []


def test_half_written_files_of_yesterday_are_removed_and_those_of_now_are_not(root):
    (root / "data").mkdir()
    old, new = root / "data/.train.arrow.part", root / "data/.test.arrow.part"
    old.touch()
    new.touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    (problem,) = problems("disk", root)
    problem.apply()
    assert not old.exists()
    assert new.exists()


@pytest.mark.parametrize(("file", "content"), [("dvc.lock", ""), (".dvc/tmp/rwlock", '{"a": ')])
def test_a_lock_file_that_a_kill_cut_short_is_told_with_its_repair(root, file, content):
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(content)
    (problem,) = problems("lock files", root)
    assert "repairs it" in problem.repair


def test_a_run_of_last_week_is_closed_even_while_another_trains(root):
    client = tracking.configure()
    experiment = client.create_experiment("e")
    week_ago = int((time.time() - 7 * 24 * 3600) * 1000)
    client.create_run(experiment, run_name="old", start_time=week_ago)
    client.create_run(experiment, run_name="new")
    lock = root / ".work/train/pointer/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        (problem,) = problems("runs", root)
    assert "run old" in problem.found and "no training takes 12 hours" in problem.found


def test_a_promotion_that_was_cut_off_is_settled_and_not_killed(root):
    client = tracking.configure()
    shutil.copy(Path(__file__).parents[2] / "params.yaml", root)
    make_version(client, "precis", source="file:///model", run_id=None, tags={})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(client, "set_terminated", interrupt)  # as a kill after the aliases moved
        promotion.promote(client, "precis", 1, expected_champion=None, reason="better")
    (problem,) = problems("runs", root)
    assert "record 1 of the history (promote of version 1) was cut off" in problem.found
    problem.apply()
    assert [record.champion_after for record in promotion.history(client, "precis")] == [1]
    assert problems("runs", root) == []


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_stores_that_do_not_answer_are_one_problem_each_and_no_traceback(root, monkeypatch):
    shutil.copy(Path(__file__).parents[2] / "params.yaml", root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    remote = ["remote", "add", "-d", "far", "/not mounted/store"]
    subprocess.run([sys.executable, "-m", "dvc", *remote], check=True, capture_output=True)
    found = [problem.found for problem in problems("stores", root)]
    assert len(found) == 3
    assert "MLflow" in found[0] and "Prefect" in found[1] and "DVC remote far" in found[2]
    assert problems("runs", root) == problems("registry", root) == []


def test_too_little_disk_is_told_with_what_frees_some(root, monkeypatch):
    monkeypatch.setattr(doctor, "FEWEST_FREE_BYTES", 10**18)
    (problem,) = problems("disk", root)
    assert "GB are free" in problem.found and "dvc gc" in problem.repair


def test_parameters_that_cannot_be_used_are_told(root):
    (root / "params.yaml").write_text("train: {}\n")
    (problem,) = problems("params.yaml", root)
    assert "train.max_epochs: missing" in problem.found
