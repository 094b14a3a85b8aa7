"""What dvc.lock says was read and written, and the same digests computed anew.

DVC itself trusts what it once hashed: a flipped byte in its cache goes unnoticed by checkout, status and repro.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from precis.errors import PrecisError

LOCK = "dvc.lock"


@dataclass(frozen=True)
class StageRecord:
    """A stage's entry: MD5 by path of what it read and wrote (of a folder ending in .dir), and its parameters."""

    name: str
    deps: Mapping[str, str]
    outs: Mapping[str, str]
    params: Mapping[str, Any]


def read_lock(root: Path) -> dict[str, StageRecord]:
    """All stages in dvc.lock.

    Raises:
        PrecisError: it is missing or is no lock file.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = root / LOCK
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
        return {name: _stage(name, entry) for name, entry in content["stages"].items()}
    except FileNotFoundError as error:
        raise PrecisError(f"{path} not found: run `dvc repro` first") from error
    except (YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrecisError(f"{path} is damaged ({error}): run `make repro`, which repairs it") from error


def upstream_of(lock: Mapping[str, StageRecord], name: str) -> list[StageRecord]:
    """The stage and every stage that made something it came from, each after those it came from."""
    before: dict[str, list[str]] = {}
    waiting = [name] if name in lock else []
    while waiting:
        stage = lock[waiting.pop()]
        if stage.name not in before:
            before[stage.name] = sorted(
                other.name
                for other in lock.values()
                if other is not stage and any(_covers(out, dep) for out in other.outs for dep in stage.deps)
            )
            waiting += before[stage.name]
    return [lock[found] for found in TopologicalSorter(before).static_order()]


def _covers(out: str, dep: str) -> bool:
    return dep == out or dep.startswith(out + "/") or out.startswith(dep + "/")


def _stage(name: str, entry: Mapping[str, Any]) -> StageRecord:
    def digests(key: str) -> dict[str, str]:
        return {file["path"]: file["md5"] for file in entry.get(key, []) if "md5" in file}

    return StageRecord(name, digests("deps"), digests("outs"), entry.get("params", {}))


def md5_of(path: Path) -> str:
    """The MD5 that DVC has for a file or a folder."""
    if path.is_dir():
        listing = [
            {"md5": _file_md5(file), "relpath": file.relative_to(path).as_posix()}
            for file in path.rglob("*")
            if file.is_file() and "__pycache__" not in file.parts
        ]
        listing.sort(key=lambda entry: entry["relpath"])
        return (
            hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
            + ".dir"
        )
    return _file_md5(path)


def _file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def cache_directory(root: Path) -> Path:
    """Where DVC keeps the bytes of all outputs."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PrecisError(f"{root} is no DVC repository: {done.stderr.strip()}")
    return Path(root, done.stdout.strip())


@dataclass(frozen=True)
class CachedFile:
    """A file of an output in DVC's cache."""

    path: str
    md5: str
    location: Path


def cached_files(cache: Path, path: str, md5: str) -> list[CachedFile] | None:
    """The files of an output as the cache has them, a folder's listing first; None if it is not in the cache."""
    location = _location(cache, md5)
    if not location.is_file():
        return None
    own = CachedFile(path, md5.removesuffix(".dir"), location)
    if not md5.endswith(".dir"):
        return [own]
    try:
        listing = json.loads(location.read_text(encoding="utf-8"))
        return [own] + [
            CachedFile(f"{path}/{entry['relpath']}", entry["md5"], _location(cache, entry["md5"]))
            for entry in listing
        ]
    except (ValueError, KeyError, TypeError):
        return [own]  # a damaged listing: its own digest tells


def _location(cache: Path, md5: str) -> Path:
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def damaged(files: list[CachedFile]) -> list[str]:
    """One sentence for each cached file that is missing or has other bytes than its name says."""
    problems = []
    for file in files:
        if not file.location.is_file():
            problems.append(f"{file.path}: not in DVC's cache ({file.location})")
        elif (found := _file_md5(file.location)) != file.md5:
            problems.append(
                f"{file.path}: MD5 in DVC's cache is {found}, expected {file.md5} ({file.location})"
            )
    return problems
