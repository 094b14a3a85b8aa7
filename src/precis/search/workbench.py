"""Folders in which stages run with parameters of their own, beside the project and without touching it.

A stage is a plain command that reads params.yaml and data/ where it is started. So what is tried here goes through
the same code as `dvc repro`, and only the folder differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from precis.corpora.overrides import plain, save_yaml
from precis.errors import PrecisError
from precis.files import atomic_directory, remove_leftovers

_POLL_SECONDS = 1.0
_STOP_SECONDS = 60.0  # for a checkpoint to be written, on a busy machine
_SHOWN_LINES = 5  # of a failed stage's log, in the message
# what the ids of a corpus depend on, besides its prepared rows
_ENCODING = ("text", "vocabulary", "encode", "pretraining")


def prepare_corpus(folder: Path, values: Any, log: Path) -> Path:
    """Fetch and check a corpus into folder/data and folder/reports; returns the folder of the prepared rows."""
    make_folder(folder, values)
    for stage in ("download", "prepare"):
        run_stage(stage, folder, log)
    return folder / "data" / "prepared"


def without_test(folder: Path, prepared: Path) -> Path:
    """A folder of prepared rows whose test split is empty, for what must not know the test rows."""
    import pyarrow.parquet as pq

    from precis.corpora.article import PREPARED_SCHEMA

    remove_leftovers(folder)
    with atomic_directory(folder) as temporary:
        for split in ("train", "validation"):
            (temporary / f"{split}.parquet").symlink_to((prepared / f"{split}.parquet").resolve())
        pq.write_table(PREPARED_SCHEMA.empty_table(), temporary / "test.parquet")
    return folder


def encode_corpus(folder: Path, values: Any, prepared: Path, log: Path) -> Path:
    """Run `vocabulary` and `encode` in a folder below `folder`, unless one with these parameters is there.

    Returns:
        The folder, to be given to `make_folder`.
    """
    sections = {name: plain(values[name]) for name in _ENCODING}
    digest = hashlib.sha256(json.dumps(sections, sort_keys=True).encode())
    for path in sorted(prepared.glob("*.parquet")):
        digest.update(path.read_bytes())
    encoded = folder / digest.hexdigest()[:12]
    if not encoded.is_dir():
        remove_leftovers(encoded)
        with atomic_directory(encoded) as temporary:
            make_folder(temporary, values, prepared=prepared)
            for stage in ("vocabulary", "encode"):
                run_stage(stage, temporary, log)
    return encoded


def make_folder(
    folder: Path, values: Any, *, prepared: Path | None = None, encoded: Path | None = None
) -> None:
    """Give a folder its params.yaml, and links to what earlier stages made.

    Args:
        folder: made, or what a cut-off attempt left of it; models in it stay.
        values: params.yaml as `load_yaml` gives it.
        prepared: the folder of the prepared rows.
        encoded: what `encode_corpus` returned.
    """
    (folder / "data").mkdir(parents=True, exist_ok=True)
    save_yaml(values, folder / "params.yaml")
    links = {"prepared": prepared}
    if encoded is not None:
        links |= {name: encoded / "data" / name for name in ("vocabulary", "encoded")}
    for name, target in links.items():
        if target is not None:
            link = folder / "data" / name
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve(), target_is_directory=True)


def run_stage(
    stage: str,
    folder: Path,
    log: Path,
    *arguments: str,
    watch: Callable[[], str | None] | None = None,
) -> str | None:
    """Run a stage in a folder, as `dvc repro` would.

    Args:
        stage: its name.
        folder: where it finds params.yaml and data/.
        log: the file to which its log is added.
        arguments: of the stage.
        watch: called about once a second; a text it gives is the reason to stop the stage, in good order.

    Returns:
        The reason for which it was stopped; None when it came to its end.

    Raises:
        PrecisError: the stage failed; the message has the end of its log.
    """
    return run_module(f"precis.stages.{stage}", folder, log, arguments, watch=watch)


def run_module(
    module: str,
    folder: Path,
    log: Path,
    arguments: Sequence[str],
    *,
    watch: Callable[[], str | None] | None = None,
) -> str | None:
    """Run a module of precis in a folder; see `run_stage`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "precis.search.child", str(os.getpid()), module, *arguments]
    with log.open("ab") as output:
        start = output.tell()
        # a session of its own: a Ctrl-C at the terminal is ours to pass on, once
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            reason = _wait(process, watch)
        except BaseException:
            _stop(process)
            raise
    if reason is None and process.returncode != 0:
        with log.open("rb") as text:
            text.seek(start)
            lines = text.read().decode("utf-8", "replace").splitlines()
        told = next((i for i, line in enumerate(lines) if line.startswith("error: ")), -_SHOWN_LINES)
        said = "\n".join(lines[told:]).removeprefix("error: ") or f"exit code {process.returncode}"
        raise PrecisError(f"{module.split('.')[-1]} failed in {folder} (its log is {log}): {said}")
    return reason


def _wait(process: subprocess.Popen[bytes], watch: Callable[[], str | None] | None) -> str | None:
    while True:
        try:
            process.wait(_POLL_SECONDS)
            return None
        except subprocess.TimeoutExpired:
            reason = watch() if watch is not None else None
            if reason is not None:
                _stop(process)
                return reason


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def remove_folder(folder: Path) -> None:
    """Remove a folder of stages; what its links lead to stays."""
    shutil.rmtree(folder, ignore_errors=True)
