import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import time
from precis.processes import worker_processes

if __name__ == "__main__":
    with worker_processes(2) as pool:
        print(*pool.map(__import__("os").getpgid, [0] * 2), flush=True)
        print(*[process.pid for process in pool._processes.values()], flush=True)
        time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    parent.stdout.readline()
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    assert all(map(is_running, workers))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline, "orphans"
        time.sleep(0.05)
