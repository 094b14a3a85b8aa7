"""`precis demo` as a process."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "precis.cli", "demo", "--no-browser", "--port", "0"]


def environment() -> dict[str, str]:
    """Ours, without a store that another test of this process has used: MLflow leaves it there."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def start(*arguments: str, cwd: Path) -> tuple[subprocess.Popen, str]:
    """The process and the address that it printed."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
    )
    printed = []
    for line in process.stdout:
        printed.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/", line):
            return process, found[0]
    process.wait()
    raise AssertionError("".join(printed))


def stop(process: subprocess.Popen) -> int:
    process.send_signal(signal.SIGINT)
    process.stdout.close()
    return process.wait(timeout=60)
