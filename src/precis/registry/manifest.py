"""The SHA-256 of every file of a folder, checked before anything in it is used.

safetensors, JSON and text files load happily with a flipped bit; nothing below notices. The manifest does.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from precis.errors import PrecisError
from precis.files import atomic_path

MANIFEST = "manifest.json"


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
        temporary.write_text(json.dumps(digests, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return combined_digest(digests)


def check_manifest(directory: str | os.PathLike[str]) -> str:
    """Compare every file with the manifest; returns the folder's digest.

    Raises:
        PrecisError: the manifest is absent or unreadable, or a file is missing, changed or not listed;
            the message names every such file.
    """
    directory = Path(directory)
    try:
        expected = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(
            f"{directory} has no {MANIFEST}: it is no packaged model, register it again"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PrecisError(f"{directory / MANIFEST} is damaged ({error}): register the model again") from error
    found = digests_of(directory)
    problems = differences(expected, found)
    if problems:
        raise PrecisError(
            "\n".join(
                [
                    f"{directory} does not match its {MANIFEST} and is not used. Register the model again:",
                    *problems,
                ]
            )
        )
    return combined_digest(found)


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
