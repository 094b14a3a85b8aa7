"""The texts of files, folders and streams, as they come in; what cannot be read is put on a list. No torch."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any, TypeVar

from precis.serving.text_summarizer import MOST_CHARACTERS

STANDARD_INPUT = "-"
TEXT_SUFFIX, ROWS_SUFFIX = ".txt", ".jsonl"
_MOST_BYTES = 4 * MOST_CHARACTERS  # UTF-8 has no more for a character
_END = object()

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class InputText:
    """A text, and what is known of it: the id of its row, or its file."""

    text: str
    about: dict[str, Any]


@dataclass
class InputTexts:
    """The texts of what a command line names, in its order.

    Attributes:
        names: files, folders, and `-` for standard input.
        reads_json: whether standard input is JSON Lines.
        column: the field of JSON Lines that has the text.
        unreadable: what could not be read so far, a line for each.
    """

    names: list[str]
    reads_json: bool
    column: str
    unreadable: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._files = [file for name in self.names for file in self._files_of(name)]

    @property
    def number(self) -> int | None:
        """How many texts there are; None if that is known at the end only."""
        if any(file is None or file.suffix == ROWS_SUFFIX for file in self._files):
            return None
        return len(self._files)

    @property
    def are_several_files(self) -> bool:
        """Whether a text is one of several files."""
        return len(self._files) > 1

    def __iter__(self) -> Iterator[InputText]:
        for file in self._files:
            if file is None:
                yield from self._standard_input()
                continue
            try:
                yield from self._texts_of(file)
            except OSError as error:
                self.unreadable.append(f"{file}: {_reason(error)}")

    def _files_of(self, name: str) -> Iterator[Path | None]:
        if name == STANDARD_INPUT:
            yield None
            return
        path = Path(name)
        if not path.is_dir():
            yield path
            return
        found = False
        closed: list[OSError] = []
        for folder, folders, files in os.walk(path, onerror=closed.append):
            folders.sort()
            for file in sorted(
                [*files, *(one for one in folders if one.endswith((TEXT_SUFFIX, ROWS_SUFFIX)))]
            ):
                if file.endswith((TEXT_SUFFIX, ROWS_SUFFIX)):
                    found = True
                    yield Path(folder, file)
        self.unreadable += [f"{error.filename}: {_reason(error)}" for error in closed]
        if not found and not closed:
            self.unreadable.append(f"{name}: no {TEXT_SUFFIX} or {ROWS_SUFFIX} file in this folder")

    def _texts_of(self, file: Path) -> Iterator[InputText]:
        about = {"file": str(file)}
        status = file.stat()
        # one that is named may be a pipe, as the shell's <(…); one in a folder could wait for ever
        may_be_pipe = str(file) in self.names and stat.S_ISFIFO(status.st_mode)
        if not stat.S_ISREG(status.st_mode) and not may_be_pipe:
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            self.unreadable.append(f"{file}: {what}")
            return
        with file.open("rb") as opened:
            if file.suffix == ROWS_SUFFIX:
                yield from self._rows(str(file), opened, about)
            else:
                yield from self._checked(str(file), opened.read(_MOST_BYTES + 1), about)

    def _standard_input(self) -> Iterator[InputText]:
        name = "standard input"
        # a file of its own: Python would wait at its end for a thread that waits in sys.stdin
        with os.fdopen(os.dup(sys.stdin.fileno()), "rb") as opened:
            if self.reads_json:
                yield from self._rows(name, opened, {})
            elif opened.isatty():  # a person who types waits for each line
                for line in opened:
                    yield from self._checked(name, line, {})
            else:
                yield from self._checked(name, opened.read(_MOST_BYTES + 1), {})

    def _rows(self, name: str, lines: IO[bytes], about: dict[str, Any]) -> Iterator[InputText]:
        number = 0
        while line := lines.readline(_MOST_BYTES + 1):
            number += 1
            where = f"{name}, line {number}"
            if len(line) > _MOST_BYTES:
                self.unreadable.append(
                    f"{where}: longer than {_MOST_BYTES:,} bytes; what follows is not read"
                )
                return
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                self.unreadable.append(f"{where}: no JSON ({error})")
                continue
            if not isinstance(row, dict) or self.column not in row:
                self.unreadable.append(f"{where}: no {self.column!r} in it; --column names another")
                continue
            text = row[self.column]
            if not isinstance(text, str):
                self.unreadable.append(f"{where}: {self.column!r} is {type(text).__name__}, expected text")
                continue
            known = {"id": row["id"]} if "id" in row else {}
            yield from self._checked(where, text, {**about, **known})

    def _checked(self, where: str, text: str | bytes, about: dict[str, Any]) -> Iterator[InputText]:
        """The text, if it is one."""
        try:
            decoded = text.decode("utf-8") if isinstance(text, bytes) else text
            decoded.encode("utf-8")
        except UnicodeDecodeError as error:
            self.unreadable.append(f"{where}: not UTF-8 text ({error.reason} at byte {error.start})")
        except UnicodeEncodeError as error:
            self.unreadable.append(f"{where}: half a surrogate pair at character {error.start}")
        else:
            if len(decoded) > MOST_CHARACTERS:
                self.unreadable.append(f"{where}: longer than {MOST_CHARACTERS:,} characters")
            else:
                yield InputText(decoded, about)


def waiting(items: Iterable[Item], first: int, largest: int) -> Iterator[list[Item]]:
    """Take what has come in, in windows: one that comes alone does not wait for others.

    Args:
        items: read by a thread of their own.
        first: the most items of the first window; the next ones may have twice as many.
        largest: the most items of any; twice as many are read ahead.
    """
    ready: Queue[Any] = Queue(2 * largest)

    def read() -> None:
        try:
            for item in items:
                ready.put(item)
        except BaseException as error:  # told by whoever takes the items
            ready.put(_Failed(error))
        ready.put(_END)

    threading.Thread(target=read, daemon=True).start()
    size = first
    while True:
        window = []
        item = ready.get()
        while item is not _END:
            if isinstance(item, _Failed):
                raise item.error
            window.append(item)
            if len(window) == size:
                break
            try:
                item = ready.get_nowait()
            except Empty:
                break
        if window:
            yield window
        if item is _END:
            return
        size = min(2 * size, largest)


@dataclass(frozen=True)
class _Failed:
    error: BaseException


def _reason(error: OSError) -> str:
    return "not found" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
