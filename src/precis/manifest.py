"""The SHA-256 of every file of a folder, checked before anything in it is used.

safetensors, JSON and text files load happily with a flipped bit; nothing below notices. The manifest does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from precis.errors import PrecisError
from precis.files import atomic_path, read_ordinary

MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 10_000_000  # bytes
_DIGEST = re.compile(r"[0-9a-f]{64}")


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(directory: str | os.PathLike[str]) -> dict[str, str]:
    """SHA-256 of every file below `directory` but the manifest, by POSIX path, sorted."""
    directory = Path(directory)
    files = sorted(
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and path.name != MANIFEST and "__pycache__" not in path.parts
    )
    return {name: file_digest(directory / name) for name in files}


def combined_digest(digests: dict[str, str]) -> str:
    """One SHA-256 for a whole folder: equal exactly if names and bytes of all files are."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()


def write_manifest(directory: str | os.PathLike[str]) -> str:
    """Write the manifest of a folder into it; returns the folder's digest."""
    digests = digests_of(directory)
    with atomic_path(Path(directory) / MANIFEST) as temporary:
        temporary.write_bytes(_as_bytes(digests))
    return combined_digest(digests)


def check_manifest(directory: str | os.PathLike[str]) -> str:
    """Compare every file with the manifest; returns the folder's digest.

    Raises:
        PrecisError: the manifest is absent or unreadable, or a file is missing, changed or not listed;
            the message names every such file.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    try:
        content = read_ordinary(path, _LARGEST_MANIFEST)
    except FileNotFoundError as error:
        raise PrecisError(
            f"{directory} has no {MANIFEST}: it is no packaged model, register it again"
        ) from error
    try:
        expected = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PrecisError(f"{path} is damaged ({error}): register the model again") from error
    _check_names(expected, path)
    if content != _as_bytes(expected):
        raise PrecisError(f"{path} is damaged: it is not as it was written; register the model again")
    found = digests_of(directory)
    problems = differences(expected, found)
    if problems:
        raise PrecisError(
            "\n".join(
                [
                    f"{directory} does not match its {MANIFEST} and is not used. Train or register the model again:",
                    *problems,
                ]
            )
        )
    return combined_digest(found)


def _as_bytes(digests: dict[str, str]) -> bytes:
    return (json.dumps(digests, indent=2, sort_keys=True) + "\n").encode()


def _check_names(expected: object, path: Path) -> None:
    """What a manifest lists are files of its folder, each with a digest."""
    if not isinstance(expected, dict) or not expected:
        raise PrecisError(f"{path} is damaged: expected the digests of files; register the model again")
    for name, digest in expected.items():
        parts = name.split("/")
        if name.startswith("/") or "\\" in name or "\0" in name or not {"", ".", ".."}.isdisjoint(parts):
            raise PrecisError(f"{path} lists {name[:100]!r}, which is no file of its folder: it is not used")
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise PrecisError(f"{path}: expected a SHA-256 for {name[:100]!r}; register the model again")


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """One line for each file that is missing, changed or unexpected."""
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            lines.append(f"  {name}: missing")
        elif name not in expected:
            lines.append(f"  {name}: not listed")
        elif expected[name] != found[name]:
            lines.append(f"  {name}: SHA-256 is {found[name]}, expected {expected[name]}")
    return lines
