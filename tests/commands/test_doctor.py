import os
import time

import pytest

from precis.commands.doctor import CHECKS
from precis.training import tracking


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
