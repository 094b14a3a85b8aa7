"""Runs DVC and leaves nothing behind: one run at a time, no orphaned stage, no lock file to mend by hand.

    python flows/pipeline.py [ARGUMENTS OF dvc repro]

DVC owns the graph and does the work; plain `dvc repro` does the same. What this adds around it:

- a lock that the kernel frees when its holders are gone, so that a second run ends at once and says "busy";
- repair of a `dvc.lock` or `.dvc/tmp/rwlock` that a kill in the middle of a write left empty: DVC writes both
  in place, and would refuse every later run;
- a process group of its own for DVC and the stage: DVC ends on SIGTERM without its stage, which would go on
  writing. Here a signal, or the end of whoever started this, ends all of them.

It imports nothing of precis and nothing of Prefect.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUSY_EXIT = TRY_LATER_EXIT = 75  # EX_TEMPFAIL of sysexits.h; a stage ends so when the network failed it
LAST_WORDS = 30  # lines of a failed stage that are told
GRACE_SECONDS = 20.0  # for a stage to write its checkpoint after SIGTERM, before SIGKILL
_LOCK_FD = "PRECIS_PIPELINE_LOCK_FD"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class BusyError(Exception):
    """Another run of the pipeline is at work in this folder."""


class StageFailedError(Exception):
    """DVC could not bring a stage up to date; the message has the last lines that were printed.

    Attributes:
        exit_code: of the stage itself, as far as DVC told it.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LockFileConflictError(Exception):
    """dvc.lock has merge conflicts that only a person can resolve."""


def stages(root: Path = ROOT) -> list[str]:
    """The names of all stages, each after those it depends on, as DVC tells them."""
    names = _dvc(root, "stage", "list", "--name-only").split()
    before: dict[str, list[str]] = {name: [] for name in names}
    for first, second in re.findall(r'"(.+?)" -> "(.+?)"', _dvc(root, "dag", "--dot")):
        if first in before and second in before:
            before[second].append(first)
    return list(TopologicalSorter(before).static_order())


def changes(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """The stages that DVC would run now, each with what changed: "file", "output", "parameter" or "command" by name."""
    status = json.loads(_dvc(root, "status", "--json"))
    return {name: dict(_changed_names(reasons)) for name, reasons in sorted(status.items()) if reasons}


def _changed_names(reasons: list[Any]) -> Iterator[tuple[str, str]]:
    # "changed command", or {"changed deps": {path: how, params.yaml: {parameter: how}}}
    for reason in reasons:
        if isinstance(reason, str):
            yield "command", "command"
            continue
        for key, changed in reason.items():
            for path, how in changed.items():
                if isinstance(how, dict):
                    yield from ((name, "parameter") for name in how)
                else:
                    yield path, "output" if key == "changed outs" else "file"


def _dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*dvc_command(), *arguments], cwd=root, env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StageFailedError(f"dvc {' '.join(arguments)} failed:\n{done.stderr.strip()}")
    return done.stdout


def dvc_command() -> list[str]:
    """How to call the DVC of this Python environment."""
    return [sys.executable, "-m", "dvc"]


def environment() -> dict[str, str]:
    """The environment of DVC and its stages: `python` is this one, and nothing phones home."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**defaults, **os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


@contextmanager
def pipeline_lock(root: Path = ROOT) -> Iterator[int]:
    """Be the one run of the pipeline in this folder.

    Gives the file descriptor that holds the lock; a child that inherits it holds the lock too, so that after
    a kill of the parent the folder is busy for as long as a child still works.

    Raises:
        BusyError: another run has it.
    """
    inherited = os.environ.get(_LOCK_FD)
    if inherited is not None:
        yield int(inherited)
        return
    path = root / ".work" / "pipeline.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise BusyError(
                f"busy: another run of the pipeline is at work in {root} (started by process {holder}); "
                "wait until it ends, or stop it"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield file.fileno()


def run_stage(
    stage: str, say: Callable[[str], None], *, root: Path = ROOT, lock: int, force: bool = False
) -> None:
    """Have DVC bring one stage up to date; every line it prints goes to `say` at once.

    With `force` the stage runs also if nothing that DVC knows of has changed. The work happens in a process of its
    own (this file as a script), which ends all below it when this process ends, however it ends.

    Raises:
        StageFailedError: the stage, or DVC, ended with another exit code than 0.
    """
    process = subprocess.Popen(
        [sys.executable, __file__, "--single-item", *(["--force"] if force else []), stage],
        cwd=root,
        env={**environment(), _LOCK_FD: str(lock)},
        pass_fds=[lock],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    last_lines: deque[str] = deque(maxlen=LAST_WORDS)
    try:
        for line in _lines_of(process):
            last_lines.append(line)
            say(line)
        code = process.wait()
    except BaseException as error:
        process.send_signal(signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
        process.wait()
        raise
    if code != 0:
        told = re.search(r"exited with (\d+)", "\n".join(last_lines))  # DVC's own code is 255 for all
        raise StageFailedError(
            f"stage {stage} failed with exit code {told[1] if told else code}; its last words:\n"
            + "\n".join(last_lines),
            int(told[1]) if told else None,
        )


def _lines_of(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """What a process prints, line by line, until its end.

    A time-out of Prefect is an exception set from another thread: it arrives between two steps of Python, never
    in a read that waits for a silent stage. So another thread reads, and this one wakes up twice a second.
    """
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for raw in process.stdout:
            lines.put(raw)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            raw = lines.get(timeout=0.5)
        except queue.Empty:
            continue
        if raw is None:
            return
        # of a progress bar that redraws itself only the last state is worth a line
        line = raw.decode("utf-8", errors="replace").rstrip().rpartition("\r")[2]
        if line:
            yield line


def repair(root: Path = ROOT) -> list[str]:
    """Mend what a kill in the middle of a write can leave in DVC's files; only for the holder of the lock.

    Returns:
        one sentence for each repair.
    """
    done = []
    lock_file, good = root / "dvc.lock", root / ".dvc" / "tmp" / "dvc.lock.good"
    if lock_file.exists() and _stays(lambda: not _is_lock_file(lock_file)):
        if "<<<<<<<" in lock_file.read_text(encoding="utf-8", errors="replace"):
            raise LockFileConflictError(
                "dvc.lock has merge conflicts: keep one side (`git checkout --ours dvc.lock`) and run again"
            )
        broken = good.with_suffix(".broken")
        broken.parent.mkdir(parents=True, exist_ok=True)
        lock_file.replace(broken)
        if good.exists():
            shutil.copyfile(good, lock_file)
            done.append("dvc.lock was cut short by a kill: put back the last whole one")
        else:
            done.append("dvc.lock was cut short by a kill: removed it, DVC will write a new one")
    rwlock = root / ".dvc" / "tmp" / "rwlock"
    if rwlock.exists() and _stays(lambda: not _is_json(rwlock)):
        rwlock.unlink()
        done.append(".dvc/tmp/rwlock was cut short by a kill: removed it")
    elif rwlock.exists() and _is_stale(rwlock):
        rwlock.unlink()
        done.append(".dvc/tmp/rwlock named only processes that are gone: removed it")
    return done


def _is_stale(rwlock: Path) -> bool:
    """Whether it names processes, and none of them is a DVC at work.

    DVC itself takes a number for alive that another process has since, after a restart of the machine for one, or
    whose process is dead and not reaped yet.
    """
    found = {int(number) for number in re.findall(r'"pid": (\d+)', rwlock.read_text(encoding="utf-8"))}
    return sys.platform == "linux" and bool(found) and not any(map(_is_dvc_at_work, found))


def _is_dvc_at_work(number: int) -> bool:
    folder = Path("/proc", str(number))
    try:
        state = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        return state != "Z" and b"dvc" in (folder / "cmdline").read_bytes()
    except OSError:
        return False


def _stays(broken: Callable[[], bool]) -> bool:
    # a DVC that somebody started by hand may be in the middle of a write, for a few milliseconds
    for _ in range(5):
        if not broken():
            return False
        time.sleep(0.1)
    return True


def _is_json(path: Path) -> bool:
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True


def _is_lock_file(path: Path) -> bool:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True
    except (YAMLError, ValueError):
        return False
    entries = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        return False
    return all(
        isinstance(entry, dict)
        and "cmd" in entry
        and all(
            isinstance(file, dict) and "path" in file
            for file in [*entry.get("deps", []), *entry.get("outs", [])]
        )
        for entry in entries.values()
    )


def _keep_good_lock_file(root: Path) -> None:
    lock_file, good = root / "dvc.lock", root / ".dvc" / "tmp" / "dvc.lock.good"
    if lock_file.exists() and good.parent.is_dir() and _is_lock_file(lock_file):
        temporary = good.with_suffix(".part")
        shutil.copyfile(lock_file, temporary)
        temporary.replace(good)


def supervise(
    command: list[str], root: Path = ROOT, *, keep_fds: tuple[int, ...] = (), leader_first: bool = False
) -> int:
    """Run a command in a process group of its own and leave none of the group behind.

    SIGTERM, SIGINT and SIGHUP to this process go to the whole group; so does SIGTERM when the parent of this
    process ends. What is still there `GRACE_SECONDS` later is killed.

    Args:
        command: what to run.
        root: where.
        keep_fds: file descriptors that it inherits.
        leader_first: send a signal to the command alone, and end the rest of the group after it.

    Returns:
        the command's exit code, or 128 plus the number of the signal that ended it or this.
    """
    end_with_parent()
    _adopt_orphans()
    send = os.kill if leader_first else os.killpg
    received: list[int] = []
    group: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for leader in group:
            with suppress(ProcessLookupError):
                send(leader, number)

    for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(wanted) != signal.SIG_IGN:
            signal.signal(wanted, forward)
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        start_new_session=True,
        pass_fds=keep_fds,
        preexec_fn=end_with_parent,  # noqa: PLW1509  # there are no threads here
    )
    group.append(process.pid)
    for number in received:  # one that came before the group was there
        send(process.pid, number)
    deadline = None
    while process.poll() is None:
        if received and deadline is None:
            deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            _signal_group(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    _end_group(process.pid, asked=bool(received) and not leader_first, deadline=deadline)
    if received:
        return 128 + received[0]
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end_group(leader: int, *, asked: bool, deadline: float | None) -> None:
    """The leader is gone: end what it left, reaping it, as the kernel counts unreaped ones as members."""
    if not asked:
        _signal_group(leader, signal.SIGTERM)
    deadline = deadline or time.monotonic() + GRACE_SECONDS
    while _signal_group(leader, 0):
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if time.monotonic() > deadline:
            _signal_group(leader, signal.SIGKILL)
        time.sleep(0.02)


def _signal_group(leader: int, number: int) -> bool:
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_with_parent() -> None:
    """Get SIGTERM when the parent of this process ends, however it ends (Linux)."""
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before we asked
        os.kill(os.getpid(), signal.SIGTERM)


def _adopt_orphans() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    # elsewhere than on Linux a killed parent leaves its children, as everywhere
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def deliver_what_waits(root: Path) -> None:
    """Have precis send figures that MLflow did not take when they were found; no stage may be left to do it."""
    folders = root / ".work" / "tracking", root / ".work" / "train"
    if any(folders[0].glob("*/head.json")) or any(folders[1].glob("*/*/end.json")):
        command = [sys.executable, "-m", "precis.training.parcels"]
        subprocess.run(command, cwd=root, env=environment(), check=False)


def main(arguments: list[str]) -> int:
    """`dvc repro` with the lock, the repairs and the process group."""
    root = Path.cwd()
    try:
        with pipeline_lock(root) as lock:
            for sentence in repair(root):
                print(f"repaired: {sentence}", file=sys.stderr)
            code = supervise([*dvc_command(), "repro", *arguments], root, keep_fds=(lock,))
            _keep_good_lock_file(root)
            deliver_what_waits(root)
            return code
    except (BusyError, LockFileConflictError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BUSY_EXIT if isinstance(error, BusyError) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
