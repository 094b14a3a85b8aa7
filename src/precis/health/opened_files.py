"""Which files below a folder are opened and written, by whatever process, as the kernel tells it (Linux inotify).

Hooks inside Python see less: Arrow opens Parquet files in C++, safetensors in Rust.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import struct
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from precis.errors import PrecisError

# of <sys/inotify.h>
_CLOSE_WRITE, _OPEN, _MOVED_TO, _CREATE = 0x8, 0x20, 0x80, 0x100
_OVERFLOW, _IS_DIRECTORY = 0x4000, 0x40000000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name


class OpenedFiles:
    """Watch a folder from `with` to the end of it; then `opened` and `written` have the paths, POSIX, relative.

    Files in folders that are made in the meantime may be missed.

    Args:
        root: the folder.
        skip: names of folders that are not watched, with all below them.

    Raises:
        PrecisError: this system has no inotify, or there are too many folders or events.
    """

    def __init__(self, root: Path, *, skip: Collection[str] = ()) -> None:
        self.opened: set[str] = set()
        self.written: set[str] = set()
        self._root = root
        self._skip = frozenset(skip)
        self._folders: dict[int, str] = {}
        self._has_overflowed = False

    def __enter__(self) -> Self:
        if sys.platform != "linux":
            raise PrecisError("opened files can be watched on Linux only")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._queue = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._queue < 0:
            raise PrecisError(f"opened files cannot be watched: {os.strerror(ctypes.get_errno())}")
        try:
            for folder, names, _ in os.walk(self._root):
                names[:] = [name for name in names if name not in self._skip]
                self._watch(Path(folder))
        except BaseException:
            os.close(self._queue)
            raise
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._reader.join()
        os.close(self._queue)
        if self._has_overflowed and error is None:
            raise PrecisError("more files were opened at once than the kernel keeps: run it again")

    def _watch(self, folder: Path) -> None:
        mask = _OPEN | _CLOSE_WRITE | _MOVED_TO | _CREATE
        watch = self._libc.inotify_add_watch(self._queue, os.fsencode(folder), mask)
        if watch < 0:
            code = ctypes.get_errno()
            advice = "; raise fs.inotify.max_user_watches" if code == errno.ENOSPC else ""
            raise PrecisError(f"{folder} cannot be watched: {os.strerror(code)}{advice}")
        self._folders[watch] = folder.relative_to(self._root).as_posix()

    def _read(self) -> None:
        while True:
            # what happened is in the queue before the call that did it returns: after the end one look is enough
            is_last = self._ended.is_set()
            while select.select([self._queue], [], [], 0.0 if is_last else 0.05)[0]:
                self._note(os.read(self._queue, 1 << 16))
            if is_last:
                return

    def _note(self, events: bytes) -> None:
        place = 0
        while place < len(events):
            watch, mask, _, length = _EVENT.unpack_from(events, place)
            place += _EVENT.size
            name = os.fsdecode(events[place : place + length].rstrip(b"\0"))
            place += length
            if mask & _OVERFLOW:
                self._has_overflowed = True
            if mask & _IS_DIRECTORY or not name or watch not in self._folders:
                continue
            path = name if (folder := self._folders[watch]) == "." else f"{folder}/{name}"
            if mask & _OPEN:
                self.opened.add(path)
            if mask & (_CLOSE_WRITE | _MOVED_TO | _CREATE):
                self.written.add(path)
