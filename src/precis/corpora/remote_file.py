"""Files behind an fsspec URL that are read where they are, without a copy on this machine."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from precis.errors import PrecisError

_BLOCK_BYTES = 8 << 20  # fetched at once
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "sha256")  # what object stores call a content's digest
_REFUSED_SCHEMES = {
    "reference",
    "filecache",
    "simplecache",
    "blockcache",
    "zip",
    "tar",
    "libarchive",
    "generic",
}
Result = TypeVar("Result")
Retry = Callable[[Callable[[], Any], str], Any]


class RemoteFile:
    """One file, with what of `pathlib.Path` the readers use.

    Args:
        system: of fsspec.
        path: in it.
        about: what a listing says of it.
        retry: does something again when the network fails, and raises UnreachableError in the end; its second argument
            is what to call the file.
    """

    def __init__(self, system: Any, path: str, about: Mapping[str, Any], retry: Retry) -> None:
        self._system = system
        self._path = path
        self._about = about
        self._retry = retry
        self.name = Path(path).name

    def __str__(self) -> str:
        return without_secrets(str(self._system.unstrip_protocol(self._path)))

    def stat(self) -> os.stat_result:
        """Its size, and that it is an ordinary file; nothing else is known."""
        size = int(self._about.get("size") or 0)
        return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Open it for reading bytes; each failed request is tried again."""
        assert mode == "rb"
        return io.BufferedReader(_Requests(self._open_there, self._retry, str(self)), 1 << 20)

    @property
    def digest(self) -> str | None:
        """What the store calls its content by; None if it has no such thing."""
        return next((str(self._about[key]).strip('"') for key in _VERSIONS if self._about.get(key)), None)

    @property
    def version(self) -> str:
        """What is another when the content is: the store's digest, else size and time."""
        keys = ("size", "mtime", "LastModified", "last_modified", "created")
        return self.digest or " ".join(str(self._about[key]) for key in keys if key in self._about)

    def _open_there(self) -> Any:
        return self._system.open(self._path, "rb", block_size=_BLOCK_BYTES)


class _Requests(io.RawIOBase):
    """Reads of a remote file, each tried again on a new connection when it fails."""

    def __init__(self, open_there: Callable[[], Any], retry: Retry, name: str) -> None:
        self._open_there = open_there
        self._retry = retry
        self._name = name
        self._file: Any = None
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            offset += self._size()
        self._position = offset + (self._position if whence == io.SEEK_CUR else 0)
        return self._position

    def readinto(self, target: Any) -> int:
        content: bytes = self._retry(lambda: self._fetch(len(target)), self._name)
        target[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()

    def _fetch(self, size: int) -> bytes:
        def fetch() -> bytes:
            file = self._file or self._open_there()
            self._file = None  # after an error it is not used again
            file.seek(self._position)
            content = bytes(file.read(size))
            self._file = file
            return content

        return network_errors_as_os_errors(fetch)

    def _size(self) -> int:
        def ask() -> int:
            self._file = self._file or self._open_there()
            return int(self._file.size)

        return int(self._retry(lambda: network_errors_as_os_errors(ask), self._name))


def open_system(location: str) -> tuple[Any, str]:
    """The file system that a URL is of, and the path in it; raises PrecisError for what is not opened."""
    from fsspec.core import url_to_fs

    # chains unpack archives and make caches, and a `reference` may name any other file
    if "::" in location or urlsplit(location).scheme in _REFUSED_SCHEMES:
        raise PrecisError(
            f"corpus.files.path: {without_secrets(location)} is a chain or a reference, which is not "
            "followed; unpack the archive, and give the path of the folder"
        )
    try:
        system, path = url_to_fs(location)
    except (ImportError, ValueError) as error:
        scheme = urlsplit(location).scheme
        raise PrecisError(
            f"corpus.files.path: {without_secrets(location)} cannot be opened: {error}. Install what "
            f"fsspec needs for {scheme}:// into .venv, or copy the files here and give their path"
        ) from error
    return system, path


def network_errors_as_os_errors(action: Callable[[], Result]) -> Result:
    """Do `action`; what it raises is an OSError, whatever protocol has errors of its own."""
    try:
        return action()
    except (OSError, PrecisError):
        raise
    except Exception as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def without_secrets(location: str) -> str:
    """The location without user, password and query."""
    if "://" not in location:
        return location
    parts = urlsplit(location)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
