"""Worker processes that end when the one that started them does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_SHELLS = {"sh", "dash", "bash", "zsh", "ksh", "fish"}


def num_cores() -> int:
    """The cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on every system; a container may have fewer cores
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def worker_processes(number: int | None = None) -> ProcessPoolExecutor:
    """A pool of fresh Python processes; None takes one for each core.

    Python's own workers wait for ever when their parent was killed: they hold the other end of the pipe that
    they read. On Linux these are told of its end; a Ctrl-C is the parent's to answer.
    """
    return ProcessPoolExecutor(
        number, mp_context=get_context("spawn"), initializer=_end_with_parent, initargs=(os.getpid(),)
    )


def terminate_with_dvc() -> None:
    """In a stage that DVC runs: get SIGTERM when DVC ends, however it ends (Linux).

    DVC leaves its stage running when it is killed or gets SIGTERM, and the next one would write the same files.
    """
    if "DVC_STAGE" not in os.environ or sys.platform != "linux":
        return
    parent = os.getppid()
    _tell_of_the_end(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
    if _name_of(parent) in _SHELLS:  # of DVC, still there: its end is not that of DVC
        threading.Thread(target=_terminate_after, args=(parent,), name="dvc", daemon=True).start()


def _terminate_after(shell: int) -> None:
    dvc = _parent_of(shell)
    while dvc is not None and _parent_of(shell) == dvc:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _parent_of(process: int) -> int | None:
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[1])


def _name_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _end_with_parent(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        _tell_of_the_end(signal.SIGKILL)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)


def _tell_of_the_end(number: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
