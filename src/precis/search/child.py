"""Runs a module of precis in a process that is told to stop when the one that started it ends.

`python -m precis.search.child PARENT MODULE ARGUMENTS`: a training whose searcher was killed would otherwise go
on by itself, and hold what the next searcher needs.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arm the signal, and become the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        # SIGTERM: training writes a checkpoint and leaves
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it ended before we asked
            sys.exit(128 + signal.SIGTERM)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
