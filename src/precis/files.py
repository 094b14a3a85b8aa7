"""Files that are either whole or absent."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from precis.errors import PrecisError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success the file takes its place in one step.

    The temporary file lies in the same folder, so that the rename never crosses file systems. What is
    written is on disk before the rename, and the rename before this returns. On any exception the
    temporary file is removed and what was at `path` stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        # mkstemp makes files that only their owner reads
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty temporary folder beside `path`; on success it takes the place of `path`.

    A folder that was at `path` is replaced as a whole. On any exception it stays and the temporary one goes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            retired = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
            path.replace(retired / "old")
            temporary.replace(path)
            shutil.rmtree(retired)
        else:
            temporary.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_ordinary(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """The bytes of an ordinary file.

    A pipe would be waited for, and a device never ends: neither is opened for reading.

    Raises:
        FileNotFoundError: there is nothing.
        PrecisError: it is no ordinary file, is too large, or cannot be read.
    """
    path = Path(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PrecisError(f"{path} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise PrecisError(f"{path} is no ordinary file")
        content = file.read(most_bytes + 1) if about.st_size <= most_bytes else None
    if content is None or len(content) > most_bytes:
        raise PrecisError(f"{path} is larger than {most_bytes:,} bytes: it is not what its name says")
    return content


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what killed runs left beside `path`: temporary files and folders of `atomic_path` and its like."""
    path = Path(path)
    for leftover in path.parent.glob(f".{path.name}.*.part"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
