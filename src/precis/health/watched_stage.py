"""A stage of dvc.yaml run under watch, and what it did that dvc.yaml does not say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from precis.errors import PrecisError
from precis.health.opened_files import OpenedFiles
from precis.health.params_reads import FOLDER_VARIABLE

# folders that hold no input of any stage: the record, and what a stage keeps to go on after a kill
_UNWATCHED = (".git", ".dvc", ".venv", ".work", "mlartifacts", "__pycache__")
# files that are read to be noted in MLflow, and change nothing in what a stage writes; parameters are told apart
_NOTED = ("params.yaml", "dvc.yaml", "dvc.lock", "constraints.txt", "mlflow.db", "src/precis/health")
_ANYWHERE = ["execution"]  # says where a stage runs and changes no result: no stage depends on it
_LAST_LINES = 15
_LIST_STAGES = """
import json
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

stages = []
for stage in Repo(".").index.stages:
    files = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    stages.append({
        "name": stage.addressing,
        "command": stage.cmd,
        "deps": [dep.def_path for dep in files],
        "params": [name for dep in params for name in dep.params],
        "outs": [out.def_path for out in stage.outs],
    })
print(json.dumps(stages))
"""


@dataclass(frozen=True)
class DeclaredStage:
    """A stage as dvc.yaml has it: paths are POSIX and relative to the root, parameters have dots."""

    name: str
    command: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]

    @property
    def definition(self) -> str:
        """Its name in dvc.yaml: a matrix makes several stages of one definition."""
        return self.name.partition("@")[0]


@dataclass(frozen=True)
class Observed:
    """What a stage did: files that it opened and wrote, and parameters that it read."""

    opened: frozenset[str]
    written: frozenset[str]
    params: frozenset[str]


@dataclass(frozen=True)
class Gap:
    """Something that dvc.yaml does not tell of a stage.

    Attributes:
        found: in words.
        repair: what to change in dvc.yaml.
    """

    found: str
    repair: str


def declared_stages(root: Path) -> list[DeclaredStage]:
    """All stages of a DVC repository, each after those whose outputs it reads."""
    done = subprocess.run(
        [sys.executable, "-c", _LIST_STAGES], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PrecisError(f"dvc.yaml cannot be read: {done.stderr.strip().splitlines()[-1]}")
    stages = {
        entry["name"]: DeclaredStage(
            entry["name"],
            entry["command"],
            tuple(entry["deps"]),
            tuple(entry["params"]),
            tuple(entry["outs"]),
        )
        for entry in json.loads(done.stdout.splitlines()[-1])
    }
    before = {
        name: {
            other.name
            for other in stages.values()
            if other is not stage and any(_cover(dep, other.outs) for dep in stage.deps)
        }
        for name, stage in stages.items()
    }
    return [stages[name] for name in TopologicalSorter(before).static_order()]


def watch_stage(root: Path, stage: DeclaredStage, environment: Mapping[str, str]) -> Observed:
    """Run a stage's command in `root` and tell what it did.

    Args:
        root: a copy of the repository in which the command is free to write.
        stage: what to run; its inputs are there.
        environment: of the command. Imports come from `root/src`.

    Raises:
        PrecisError: the command fails.
    """
    with tempfile.TemporaryDirectory(prefix="precis-watch-") as folder:
        hook, reads = Path(folder, "hook"), Path(folder, "reads")
        hook.mkdir()
        reads.mkdir()
        # Python imports a module of this name when it starts
        (hook / "sitecustomize.py").write_text("from precis.health.params_reads import record\n\nrecord()\n")
        watched = {
            **environment,
            "PYTHONPATH": os.pathsep.join([str(hook), str(root / "src")]),
            "PYTHONDONTWRITEBYTECODE": "1",  # without compiled copies an import opens the file itself
            FOLDER_VARIABLE: str(reads),
        }
        with OpenedFiles(root, skip=_UNWATCHED) as files:
            done = subprocess.run(
                ["sh", "-c", stage.command],  # as DVC does
                cwd=root,
                env=watched,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:])
            raise PrecisError(f"{stage.name} ended with {done.returncode} on the small corpus:\n{last}")
        params = {name for file in reads.iterdir() for name in json.loads(file.read_text(encoding="utf-8"))}
    return Observed(frozenset(files.opened), frozenset(files.written), frozenset(params))


def gaps(stage: DeclaredStage, observed: Observed) -> list[Gap]:
    """What the stage did and dvc.yaml does not say of it, and what dvc.yaml says and the stage did not do."""
    own = (*stage.outs, *_NOTED)
    foreign = {
        path for path in observed.opened | observed.written if not _cover(path, own) and not _is_aside(path)
    }
    inputs = sorted(path for path in foreign - observed.written if not _cover(path, stage.deps))
    outputs = sorted(foreign & observed.written)
    params = sorted(name for name in observed.params if not _is_below(name, [*stage.params, *_ANYWHERE]))
    unread = sorted(
        name
        for name in stage.params
        if not any(_is_below(read, [name]) or _is_below(name, [read]) for read in observed.params)
    )
    unopened = sorted(
        dep
        for dep in stage.deps
        if not dep.startswith("src/")
        and not _cover(dep, _NOTED)
        and not any(_cover(path, [dep]) for path in observed.opened)
    )
    where = f"stages.{stage.definition}"
    stale, for_nothing = "after a change of it, results would be stale", "runs for nothing when it changes"
    told = [
        *((f"reads {path}: {stale}", f"add it to {where}.deps") for path in inputs),
        *((f"reads the parameter {name}: {stale}", f"add it to {where}.params") for name in params),
        *(
            (f"writes {path}, which DVC does not keep", f"write it below .work/, or add it to {where}.outs")
            for path in outputs
        ),
        *((f"did not open {path}: {for_nothing}", f"remove it from {where}.deps") for path in unopened),
        *(
            (f"did not read the parameter {name}: {for_nothing}", f"remove it from {where}.params")
            for name in unread
        ),
    ]
    return [Gap(f"{stage.name} {found}", f"{repair} in dvc.yaml") for found, repair in told]


def _cover(path: str, declared: Iterable[str]) -> bool:
    """Whether a path is one of, is below one of, or holds one of those declared."""
    return any(
        path == one or path.startswith(f"{one.rstrip('/')}/") or one.startswith(f"{path.rstrip('/')}/")
        for one in declared
    )


def _is_below(name: str, declared: Iterable[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in declared)


def _is_aside(path: str) -> bool:
    # what `precis.files` renames when it is whole, SQLite's companions, and what is for git alone
    aside = (
        r"(^|/)\.[^/]*\.part(-journal|-wal|-shm)?(/|$)"
        r"|\.db(-journal|-wal|-shm|\.lock|\.registry\.lock)$|(^|/)\.gitignore$"
    )
    return re.search(aside, path) is not None
