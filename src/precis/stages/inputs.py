"""What a stage is about to read is what the stages before it wrote, byte for byte.

DVC does not look again at bytes it has hashed once, neither in its cache nor, as long as a file's time and size
stay the same, in the working copy. So every stage that DVC starts hashes its inputs itself first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from precis.errors import PrecisError
from precis.registry.dvc_lock import LOCK, cache_directory, cached_files, damaged, md5_of, read_lock


def verify_inputs(root: Path) -> None:
    """Compare what other stages made with their entries in dvc.lock; nothing to do for a stage run by hand.

    Raises:
        PrecisError: some of it has other bytes, or is missing; says which, and how to get it back.
    """
    stage = os.environ.get("DVC_STAGE")
    if stage is None or Path(os.environ.get("DVC_ROOT", "")).resolve() != root.resolve():
        return
    if not (root / LOCK).is_file():
        return
    dependencies = _dependencies(root, stage)
    problems: list[str] = []
    for maker in read_lock(root).values():
        for out, md5 in maker.outs.items():
            if maker.name != stage and any(_overlap(out, dependency) for dependency in dependencies):
                problems += _problems(root, out, md5, maker.name)
    if problems:
        raise PrecisError("\n".join([f"{stage} does not start, its input is damaged:", *problems]))


def _dependencies(root: Path, stage: str) -> list[str]:
    """The stage's deps in dvc.yaml; in those of a matrix its own item stands for the variable."""
    from ruamel.yaml import YAML

    name, _, item = stage.rpartition(":")[2].partition("@")
    stages = YAML(typ="safe").load((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    found = [str(dependency) for dependency in stages.get(name, {}).get("deps", [])]
    matrix = stages.get(name, {}).get("matrix", {})
    return [dependency.replace(f"${{item.{key}}}", item) for dependency in found for key in matrix or [""]]


def _overlap(out: str, dependency: str) -> bool:
    return f"{dependency}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dependency}/")


def _problems(root: Path, out: str, md5: str, maker: str) -> Iterator[str]:
    path = root / out
    if path.exists() and md5_of(path) == md5:
        return
    if not path.exists():
        yield f"  {out} is missing; `dvc repro` makes it anew"
        return
    cached = cached_files(cache_directory(root), out, md5)
    files = [file for file in cached or [] if not (file.path == out and path.is_dir())]
    differing = [
        file.path
        for file in files
        if not (root / file.path).is_file() or md5_of(root / file.path) != file.md5
    ]
    which = f" ({', '.join(differing)})" if differing and differing != [out] else ""
    away = [out, *(str(file.location) for file in cached or [] if damaged([file]))]
    yield (
        f"  {out}{which} has other bytes than the stage {maker} wrote; "
        f"remove {' and '.join(away)}, then `dvc repro` fetches or makes it anew"
    )
