"""DVC leaves its stage running when it is killed or gets SIGTERM; a stage of precis ends with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

GRAPH = "stages:\n  train:\n    cmd: python {stage}\n    outs: [model.txt]\n"
STOCK = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(120)\n"
OURS = f"""
from precis.stages.entry import run_stage

def main():
    try:
        exec({STOCK!r})
    finally:
        open("cleaned", "w").close()

run_stage(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_ends_in_good_order_when_dvc_ends(make_repository, number):
    root = make_repository(GRAPH.format(stage="ours.py"))
    (root / "ours.py").write_text(OURS)
    assert not is_left_after(number, root)
    assert (root / "cleaned").exists(), "it was asked to end, not killed"


def test_another_program_would_not(make_repository):
    root = make_repository(GRAPH.format(stage="stock.py"))
    (root / "stock.py").write_text(STOCK)
    assert is_left_after(signal.SIGTERM, root)


def is_left_after(number, root):
    """Whether the stage is there five seconds after DVC got a signal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    dvc = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=root,
        env={**os.environ, "PATH": path},
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while not ((root / "pid").exists() and (root / "pid").read_text()):
        assert dvc.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    stage = psutil.Process(int((root / "pid").read_text()))
    dvc.send_signal(number)
    dvc.wait()
    try:
        stage.wait(5)
    except psutil.TimeoutExpired:
        os.killpg(dvc.pid, signal.SIGKILL)
        return True
    return False
