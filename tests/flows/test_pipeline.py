import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pipeline

SLEEPING = """\
stages:
  train:
    cmd: python train.py
    outs: [model.txt]
"""
TRAIN = """\
import os, time
open("pid.part", "w").write(str(os.getpid()))
os.rename("pid.part", "pid")
time.sleep(60)
"""


def repro(root, *arguments):
    return subprocess.run(
        [sys.executable, pipeline.__file__, *arguments], cwd=root, capture_output=True, text=True
    )


@pytest.fixture
def sleeping(make_repository):
    root = make_repository(SLEEPING)
    (root / "train.py").write_text(TRAIN)
    return root


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def is_running(pid):
    try:
        # a zombie that nobody has reaped yet does nothing any more
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stages_come_after_what_they_depend_on(repository):
    assert pipeline.stages(repository) == ["download", "train@small", "train@large", "report"]


def test_the_wrapper_does_what_dvc_repro_does_and_then_nothing(repository):
    first = repro(repository)
    assert first.returncode == 0, first.stderr
    assert (repository / "reports" / "comparison.md").read_text() == "| results |\n" * 2
    assert "up to date" in repro(repository).stdout


def test_a_failing_stage_tells_its_own_last_words(make_repository):
    graph = "stages:\n  train:\n    cmd: echo 'error - no such column titel' >&2; exit 3\n"
    root = make_repository(graph)
    lines = []
    with (
        pipeline.pipeline_lock(root) as lock,
        pytest.raises(pipeline.StageFailedError, match=r"(?s)stage train failed.*no such column titel"),
    ):
        pipeline.run_stage("train", lines.append, root=root, lock=lock)
    assert "error - no such column titel" in lines


def test_of_a_progress_bar_only_the_last_state_is_said(make_repository):
    graph = r"""stages:
  train:
    cmd: python -c "print('10 %\r50 %\r100 %')"
"""
    root = make_repository(graph)
    lines = []
    with pipeline.pipeline_lock(root) as lock:
        pipeline.run_stage("train", lines.append, root=root, lock=lock)
    assert "100 %" in lines
    assert not any("10 %" in line for line in lines if not line.startswith("> "))


def test_a_second_run_ends_at_once_and_says_who_is_at_work(repository):
    with pipeline.pipeline_lock(repository):
        second = repro(repository)
    assert second.returncode == pipeline.BUSY_EXIT
    assert f"busy: another run of the pipeline is at work in {repository}" in second.stderr
    assert str(os.getpid()) in second.stderr


@pytest.mark.parametrize("left", ["", "schema: '2.0'\nstages:\n  download:\n    cm", 'schema: "2.'])
def test_a_lock_file_that_a_kill_cut_short_is_put_back(repository, left):
    assert repro(repository).returncode == 0
    whole = (repository / "dvc.lock").read_text()
    (repository / "dvc.lock").write_text(left)
    again = repro(repository)
    assert again.returncode == 0, again.stderr
    assert "put back the last whole one" in again.stderr
    assert (repository / "dvc.lock").read_text() == whole


def test_without_a_whole_one_the_lock_file_is_made_anew(repository):
    (repository / "dvc.lock").write_text("")
    with pipeline.pipeline_lock(repository):
        (said,) = pipeline.repair(repository)
    assert "removed it" in said
    assert not (repository / "dvc.lock").exists()


def test_a_merge_conflict_is_for_a_person(repository):
    conflict = "<<<<<<< HEAD\nschema: '2.0'\n=======\nschema: '2.1'\n>>>>>>> other\n"
    (repository / "dvc.lock").write_text(conflict)
    refused = repro(repository)
    assert refused.returncode == 1
    assert "merge conflicts" in refused.stderr
    assert (repository / "dvc.lock").read_text() == conflict


def test_a_torn_rwlock_is_removed(repository):
    (repository / ".dvc" / "tmp").mkdir(exist_ok=True)
    (repository / ".dvc" / "tmp" / "rwlock").write_text('{"raw.txt": {"wri')
    done = repro(repository, "download")
    assert done.returncode == 0, done.stderr
    assert "rwlock was cut short" in done.stderr


def test_a_lock_of_a_process_whose_number_another_has_now_is_removed(repository):
    """As after a restart of the machine; DVC alone would be busy until a person removes it."""
    other = subprocess.Popen(["sleep", "60"])
    holder = {"pid": other.pid, "cmd": "dvc repro"}
    (repository / ".dvc" / "tmp").mkdir(exist_ok=True)
    lock = {"write": {str(repository / "raw.txt"): holder}, "read": {}}
    (repository / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(lock))
    alone = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=repository, capture_output=True, text=True
    )
    assert alone.returncode != 0 and "is busy" in alone.stderr
    done = repro(repository)
    other.kill()
    other.wait()
    assert done.returncode == 0, done.stderr
    assert "named only processes that are gone" in done.stderr


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)]
)
def test_a_signal_ends_dvc_and_the_stage_and_the_next_run_starts(sleeping, number, exit_code):
    """SIGKILL goes to dvc's supervisor by way of its parent: nothing can be caught, all must go."""
    pid_file = sleeping / "pid"
    command = [sys.executable, pipeline.__file__]
    if number == signal.SIGKILL:  # a parent between, as a flow is
        command = [sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"]
    process = subprocess.Popen(command, cwd=sleeping, start_new_session=True)
    wait_for(pid_file.exists, 30)
    stage = int(pid_file.read_text())
    process.send_signal(number)
    assert process.wait(15) == exit_code
    wait_for(lambda: not is_running(stage), 5)
    (sleeping / "train.py").write_text("open('model.txt', 'w').write('done')")
    wait_for(lambda: repro(sleeping).returncode == 0, 20)


def test_what_a_stage_leaves_in_the_background_is_ended(make_repository):
    root = make_repository("stages:\n  train:\n    cmd: sleep 60 & echo $! > pid; exit 1\n")
    assert repro(root).returncode != 0
    assert not is_running(int((root / "pid").read_text()))


def test_signals_reach_a_stage_in_time_to_write_its_checkpoint(sleeping):
    (sleeping / "train.py").write_text(
        "import signal, sys, time\n"
        "def leave(*_): time.sleep(1); open('checkpoint', 'w').write('5'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, leave)\n" + TRAIN
    )
    process = subprocess.Popen([sys.executable, pipeline.__file__], cwd=sleeping)
    wait_for((sleeping / "pid").exists, 30)
    process.terminate()
    assert process.wait(15) == 143
    assert (sleeping / "checkpoint").read_text() == "5"
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"], cwd=sleeping, capture_output=True, text=True
    )
    assert "train" in json.loads(status.stdout)
