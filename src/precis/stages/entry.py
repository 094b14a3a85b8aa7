"""How every stage starts and ends: logging, one message for an error, the exit code of a signal."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from precis.environment import close_environment
from precis.errors import PrecisError, UnreachableError, log_to_stderr, shown
from precis.processes import terminate_with_dvc
from precis.stages.inputs import verify_inputs

ERROR_EXIT = 1
TRY_LATER_EXIT = 75  # EX_TEMPFAIL of sysexits.h: what flows/ may try again


class Terminated(SystemExit):
    """SIGTERM arrived: leave as after an exception, so that nothing half-written stays, with exit code 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main` and exit: 0 done, 1 an error told in one message, 130 Ctrl-C, 143 SIGTERM.

    75 is an error that trying again later may help, without anybody changing anything.
    """
    close_environment()
    log_to_stderr()
    signal.signal(signal.SIGTERM, _terminate)
    terminate_with_dvc()
    try:
        verify_inputs(Path.cwd())
        main()
    except PrecisError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(TRY_LATER_EXIT if isinstance(error, UnreachableError) else ERROR_EXIT)
    except KeyboardInterrupt:
        print("interrupted: this stage is still to do", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        # a full disk or a folder without write permission is nothing to show a traceback for
        print(
            shown(f"error: {error.strerror or error}: {error.filename or 'while writing'}"), file=sys.stderr
        )
        logging.getLogger(__name__).debug("where it happened", exc_info=error)
        sys.exit(ERROR_EXIT)


def _terminate(number: int, frame: FrameType | None) -> None:
    # a second signal must not cut the clean-up short
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(2, b"terminated: this stage is still to do\n")
    raise Terminated
