"""Every stage when it is asked to stop, when the disk is full, and when it may not write."""

import ctypes
import hashlib
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

COMMANDS = {
    "download": [],
    "prepare": [],
    "vocabulary": [],
    "encode": [],
    "train": ["--model", "pointer"],
    "evaluate": ["--model", "pointer"],
    "baselines": [],
    "report": [],
    "register": [],
}
OUTS = {
    "download": ["data/raw"],
    "prepare": ["data/prepared", "reports/data_checks.json"],
    "vocabulary": ["data/vocabulary", "reports/vocabulary.json"],
    "encode": ["data/encoded"],
    "train": ["models/pointer"],
    "evaluate": [
        "reports/pointer/metrics.json",
        "reports/pointer/summaries.jsonl",
        "reports/pointer/plots",
    ],
    "baselines": ["reports/baselines"],
    "report": ["reports/comparison.md", "reports/index.html", "reports/data.html"],
    "register": ["reports/registered.json"],
}

# a process with file systems that only it sees
OWN_MOUNTS = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]


def start(project, stage, **options):
    return subprocess.Popen(
        [sys.executable, "-m", f"precis.stages.{stage}", *COMMANDS[stage]],
        cwd=project.folder,
        # a full disk cuts Python's own cache of compiled modules short, too, and Python does not look
        env={**project.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def digests(project, stage):
    found = {}
    for out in OUTS[stage]:
        path = project.folder / out
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file():
                found[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
    assert found
    return found


def half_written(project):
    return [
        path for name in ("data", "models", "reports") for path in (project.folder / name).rglob("*.part")
    ]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stage_that_is_asked_to_stop_is_still_to_do(project, number, exit_code):
    for stage in COMMANDS:
        for out in OUTS[stage]:  # so that whatever is there afterwards is of the stage that was stopped
            path = project.folder / out
            path.replace(project.folder / ".work" / "aside")
            left = project.folder / ".work" / "aside"
            process = start(project, stage)
            wait_until_it_listens(process)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
            assert process.returncode == exit_code, f"{stage}: {errors}"
            assert "still to do" in errors or "going on from" in errors or "next run" in errors
            assert not path.exists(), f"{stage} left {out}"
            assert "Traceback" not in errors, errors
            left.replace(path)
            break
    assert half_written(project) == []
    for stage in COMMANDS:  # as DVC sees it
        for out in OUTS[stage]:
            path = project.folder / out
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    status = json.loads(project.run("dvc", "status", "--json").stdout)
    assert {name.split("@")[0] for name in status} == set(COMMANDS)
    assert not [one for one in psutil.process_iter() if is_in(one, project.folder)]


def wait_until_it_listens(process):
    """Until its handler for SIGTERM is there: before it, the shell's own end of the process is as good."""
    end = time.monotonic() + 120
    while True:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


def is_in(process, folder):
    try:
        return process.cwd().startswith(str(folder)) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_full_disk_is_one_message_and_what_was_there_stays(project, stage):
    """No file may grow beyond half of the largest that the stage writes."""
    before = digests(project, stage)
    largest = max(Path(file).stat().st_size for file in before)

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest // 2, largest // 2))

    process = start(project, stage, preexec_fn=limit)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors, errors
    assert "error: " in errors and ("too large" in errors or "writ" in errors), errors
    assert digests(project, stage) == before
    assert half_written(project) == []
    again = start(project, stage)
    assert again.communicate(timeout=300) and again.returncode == 0
    assert digests(project, stage) == before


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_file_system_without_room_is_one_message_and_what_was_there_stays(project, stage, tmp_path):
    """The project on a file system of its own, in which nothing is left but half of what the stage writes."""
    if shutil.which("unshare") is None or subprocess.run([*OWN_MOUNTS, "true"]).returncode:
        pytest.skip("this system gives a process no file systems of its own")
    before = digests(project, stage)
    room = sum(Path(file).stat().st_size for file in before) // 2
    kept, exit_code = tmp_path / "kept", tmp_path / "exit_code"
    project.folder.rename(kept)
    project.folder.mkdir()
    script = f"""set -e
mount -t tmpfs none {project.folder}
cp -a {kept}/. {project.folder}
cd {project.folder}
used=$(df --output=used -B 1024 . | tail -1)
mount -o remount,size=$((used + {room // 1024}))k {project.folder}
set +e
{shlex.join([sys.executable, "-m", f"precis.stages.{stage}", *COMMANDS[stage]])}
echo $? > {exit_code}
mount -o remount,size=2g {project.folder}
rm -rf {kept}
cp -a {project.folder} {kept}
"""
    ran = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", script],
        env={**project.environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    project.folder.rmdir()
    kept.rename(project.folder)
    assert exit_code.read_text().strip() == "1", ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr
    assert "error: " in ran.stderr and ("No space left" in ran.stderr or "full" in ran.stderr), ran.stderr
    assert digests(project, stage) == before
    assert half_written(project) == []
    again = start(project, stage)
    assert again.communicate(timeout=300) and again.returncode == 0
    assert digests(project, stage) == before


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_folder_without_write_permission_is_one_message(project, stage):
    before = digests(project, stage)
    folders = [project.folder, *(path for path in project.folder.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        process = start(project, stage, preexec_fn=obey_permissions)
        _, errors = process.communicate(timeout=300)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert process.returncode == 1, errors
    assert "Traceback" not in errors, errors
    assert "error: " in errors and ("ermission" in errors or "cannot be made" in errors), errors
    assert digests(project, stage) == before


def obey_permissions():
    """Root writes wherever it likes, unless it lets go of that."""
    dac_override, pr_capbset_drop = 1, 24
    if os.getuid() == 0:
        assert ctypes.CDLL(None).prctl(pr_capbset_drop, dac_override, 0, 0, 0) == 0
