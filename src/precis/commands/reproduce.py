"""Train a registered model once more, from its commit and its data, and compare the bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from precis.errors import PrecisError
from precis.params import load_params


def reproduce(
    uri: Annotated[
        str,
        typer.Argument(help="models:/NAME@ALIAS, models:/NAME/NUMBER, runs:/ID, a summary's id, or its file"),
    ],
    keep: Annotated[bool, typer.Option(help="leave the scratch folder for a look")] = False,
) -> None:
    """Check out a model's commit and data in a scratch folder, run its stages anew, and compare weights and metrics.

    Exit code 0: byte-equal. 1: not, or not possible; the message says which.
    """
    from precis.registry.lineage import has_changes, read_lineage
    from precis.registry.resolve import resolve
    from precis.training.tracking import configure

    version = resolve(configure(), uri, load_params().registry.name)
    lineage, _ = read_lineage(version)
    model, commit = lineage["model"], lineage["git_commit"]
    if commit is None:
        raise PrecisError(f"{version.uri} was not trained under git: there is no commit to go back to")
    if has_changes(lineage):
        raise PrecisError(
            f"{version.uri} was trained with changes that were not committed (SHA-256 {lineage['git_diff_sha256']}): "
            "its code cannot be checked out"
        )
    if not lineage["stages"]:
        raise PrecisError(f"{version.uri} was not made by DVC: there are no stages to run")
    root = Path.cwd().resolve()
    with _worktree(root, commit, keep=keep) as scratch:
        _take_over(root, scratch, lineage)
        _rerun(scratch, lineage)
        differing = _differences(root, scratch, lineage)
    if differing:
        raise PrecisError(
            "\n".join(
                [f"{version.uri} is not reproduced byte for byte:", *(f"  {line}" for line in differing)]
            )
        )
    print(f"{version.uri}: models/{model} and its metrics are byte-equal to what was registered")


@contextmanager
def _worktree(root: Path, commit: str, *, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="precis-reproduce-"))
    scratch = folder / root.name
    _run(["git", "worktree", "add", "--detach", "--quiet", str(scratch), commit], root)
    try:
        yield scratch
    finally:
        if keep:
            print(f"left in {scratch}; remove it with: git worktree remove --force {scratch}")
        else:
            _run(["git", "worktree", "remove", "--force", str(scratch)], root)
            shutil.rmtree(folder, ignore_errors=True)


def _take_over(root: Path, scratch: Path, lineage: dict[str, Any]) -> None:
    """The data that no stage makes or that came from outside: from DVC's cache and the working copy."""
    from precis.registry.dvc_lock import cache_directory, cached_files, damaged

    cache = cache_directory(root)
    for stage in lineage["stages"]:
        if stage["name"] == "download":  # the source may have gone on since; what was fetched has not
            for out, md5 in stage["outs"].items():
                files = cached_files(cache, out, md5)
                if files is None:
                    raise PrecisError(f"{out} ({md5}) is not in DVC's cache: try `dvc pull`")
                if problems := damaged(files):
                    raise PrecisError("DVC's cache is damaged: " + "; ".join(problems))
                for file in files[1:] if md5.endswith(".dir") else files:
                    target = scratch / file.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file.location, target)


def _rerun(scratch: Path, lineage: dict[str, Any]) -> None:
    """Every stage but `download`, by the commands of the commit's dvc.yaml, with its parameters and code."""
    from ruamel.yaml import YAML

    yaml = YAML()
    for stage in lineage["stages"]:
        for file, values in stage["params"].items():
            path = scratch / file
            content = yaml.load(path.read_text(encoding="utf-8"))
            for key, value in values.items():
                _set(content, key.split("."), value)
            with path.open("w", encoding="utf-8") as opened:
                yaml.dump(content, opened)
    environment = {
        **os.environ,
        "PYTHONPATH": str(scratch / "src"),  # the code of the commit, not the installed one
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        # a record of its own: the runs that are there are not touched
        "MLFLOW_TRACKING_URI": f"sqlite:///{scratch / 'mlflow.db'}",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{scratch / 'mlflow.db'}",
    }
    for stage in lineage["stages"]:
        if stage["name"] != "download":
            print(f"running {stage['name']}")
            _run(["sh", "-c", _command(scratch, stage["name"], environment)], scratch, environment)


def _command(scratch: Path, stage: str, environment: dict[str, str]) -> str:
    code = "import sys; from dvc.repo import Repo; print(Repo('.').stage.get_target(sys.argv[1]).cmd)"
    return _run([sys.executable, "-c", code, stage], scratch, environment).strip()


def _set(content: Any, keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value


def _differences(root: Path, scratch: Path, lineage: dict[str, Any]) -> list[str]:
    """One line for each file of the model and the metrics that has other bytes."""
    from precis.registry.dvc_lock import cache_directory, cached_files, md5_of

    cache = cache_directory(root)
    model = lineage["model"]
    lines = []
    for stage in lineage["stages"]:
        for out, md5 in stage["outs"].items():
            if out not in (f"models/{model}", f"reports/{model}/metrics.json"):
                continue
            listed = cached_files(cache, out, md5)
            if md5.endswith(".dir") and listed is None:
                lines.append(f"{out}: what was registered is not in DVC's cache")
                continue
            pairs = (
                {file.path: file.md5 for file in listed[1:]}
                if listed and md5.endswith(".dir")
                else {out: md5}
            )
            for path, expected in pairs.items():
                found = md5_of(scratch / path) if (scratch / path).is_file() else "missing"
                if found != expected:
                    lines.append(f"{path}: MD5 is {found}, was {expected}")
    return lines


def _run(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise PrecisError(f"{' '.join(command)} failed with exit code {done.returncode}:\n{last}")
    return done.stdout
