"""Worker processes that end when the one that started them does."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

_PR_SET_PDEATHSIG = 1


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


def _end_with_parent(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            os._exit(1)
