"""The chain from a served summary to the bytes it came from: written once, walked and recomputed later.

summary → version → package → run → commit → what each stage read and wrote → rows of the corpus.

`register` writes it from dvc.lock, so a stage whose result came from DVC's cache still leads to the run that
did the work: the run is found by the fingerprint in the model directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from precis.errors import PrecisError
from precis.manifest import MANIFEST, file_digest
from precis.registry.dvc_lock import (
    StageRecord,
    cache_directory,
    cached_files,
    damaged,
    md5_of,
    read_lock,
    upstream_of,
)
from precis.registry.packaging import packaged_code_digest, unpacked
from precis.registry.versions import CODE_TAG, Version

if TYPE_CHECKING:
    from mlflow import MlflowClient

LINEAGE_FILE = "lineage.json"
LINEAGE_TAG = "precis.lineage_sha256"
FINGERPRINT_TAG = "precis.fingerprint"
COMMIT_TAG = "mlflow.source.git.commit"
State = Literal["ok", "failed", "unchecked"]


@dataclass(frozen=True)
class Link:
    """A link of the chain after it was checked.

    Attributes:
        name: what it connects, for instance "package" or "data/encoded".
        state: `unchecked` when what it takes is not on this machine.
        detail: what was compared, or what is wrong.
    """

    name: str
    state: State
    detail: str


def describe(root: Path, model: str, *, fingerprint: str, run_tags: dict[str, str]) -> dict[str, Any]:
    """The chain below a model directory, as dvc.lock and the training run have it."""
    try:
        lock = read_lock(root)
    except PrecisError:
        lock = {}  # a model that DVC did not make has a shorter chain
    stages = upstream_of(lock, f"evaluate@{model}")
    constraints = root / "constraints.txt"
    return {
        "format": 1,
        "model": model,
        "fingerprint": fingerprint,
        "git_commit": run_tags.get(COMMIT_TAG),
        "git_dirty": run_tags.get("precis.git_dirty"),
        "git_diff_sha256": run_tags.get("precis.git_diff_sha256") or None,
        "flow_run": run_tags.get("precis.flow_run"),
        "dvc_experiment": run_tags.get("precis.dvc_experiment"),
        "environment_sha256": file_digest(constraints) if constraints.is_file() else None,
        "stages": [
            {
                "name": stage.name,
                "deps": dict(stage.deps),
                "outs": dict(stage.outs),
                "params": {file: dict(values) for file, values in stage.params.items()},
            }
            for stage in stages
        ],
    }


def seal(client: MlflowClient, model_uri: str, lineage: dict[str, Any]) -> str:
    """Put the chain beside the packaged model; gives the digest that the registry keeps."""
    text = json.dumps(lineage, indent=2, sort_keys=True) + "\n"
    with tempfile.TemporaryDirectory(prefix="precis-lineage-") as folder:
        path = Path(folder) / LINEAGE_FILE
        path.write_text(text, encoding="utf-8")
        client.log_model_artifact(model_uri.removeprefix("models:/"), str(path))
    return hashlib.sha256(text.encode()).hexdigest()


def read_lineage(version: Version) -> tuple[dict[str, Any], str]:
    """The sealed chain of a version and the digest of its file."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="precis-lineage-") as folder:
        try:
            path = Path(download_artifacts(artifact_uri=f"{version.uri}/{LINEAGE_FILE}", dst_path=folder))
            return json.loads(path.read_text(encoding="utf-8")), file_digest(path)
        except (MlflowException, OSError) as error:
            raise PrecisError(
                f"{version.uri} has no {LINEAGE_FILE}: it was not made by `register`"
            ) from error
        except ValueError as error:
            raise PrecisError(f"{LINEAGE_FILE} of {version.uri} is damaged ({error})") from error


def verify(client: MlflowClient, version: Version, root: Path) -> Iterator[Link]:
    """Recompute every link that can be, from the version down to the source."""
    try:
        lineage, digest = read_lineage(version)
        expected = version.tags.get(LINEAGE_TAG)
        if digest != expected:
            yield Link(
                "lineage", "failed", f"SHA-256 of {LINEAGE_FILE} is {digest}, the registry says {expected}"
            )
            return
        yield Link("lineage", "ok", f"{LINEAGE_FILE} is as it was sealed")
    except PrecisError as error:
        yield Link("lineage", "failed", str(error))
        return
    stages = {entry["name"]: StageRecord(**entry) for entry in lineage["stages"]}
    yield from _package(version, lineage, stages, root)
    yield from _run(client, version, lineage, stages)
    yield from _commit(lineage, root)
    yield from _data(lineage, stages, root)
    yield _environment(lineage, root)
    flow_run = lineage["flow_run"]
    yield (
        Link("flow run", "unchecked", flow_run)
        if flow_run
        else Link("flow run", "ok", "none: started by hand")
    )


def _package(
    version: Version, lineage: dict[str, Any], stages: dict[str, StageRecord], root: Path
) -> Iterator[Link]:
    try:
        with unpacked(version.uri, digest=version.digest) as directory:
            run = json.loads((directory / "run.json").read_text(encoding="utf-8"))
            found = {path.name: md5_of(path) for path in directory.iterdir() if path.is_file()}
    except PrecisError as error:
        yield Link("package", "failed", str(error))
        return
    yield Link("package", "ok", f"{len(found)} files match the manifest and the registry")
    yield _code(version)
    yield from _weights(found, lineage, stages, root)
    if run.get("fingerprint") != lineage["fingerprint"]:
        yield Link(
            "package", "failed", f"it is of training {run.get('fingerprint')}, not {lineage['fingerprint']}"
        )


def _code(version: Version) -> Link:
    """The few lines that MLflow runs when it serves the package are those that were registered."""
    found = packaged_code_digest(version.uri)
    expected = version.tags.get(CODE_TAG)
    if expected is None:
        return Link("code", "unchecked", "the registry has no digest of it: registered by an older precis")
    if found != expected:
        return Link(
            "code", "failed", f"SHA-256 of the package's code is {found}, the registry says {expected}"
        )
    return Link("code", "ok", "what MLflow runs to serve it is as it was registered")


def _weights(
    packaged: dict[str, str], lineage: dict[str, Any], stages: dict[str, StageRecord], root: Path
) -> Iterator[Link]:
    """The package's files are those that the training stage wrote, as DVC has them listed."""
    train = stages.get(f"train@{lineage['model']}")
    out = f"models/{lineage['model']}"
    if train is None or out not in train.outs:
        return
    listed = cached_files(cache_directory(root), out, train.outs[out])
    if listed is None:
        yield Link("weights", "unchecked", f"{train.outs[out]} is not in DVC's cache: `dvc pull` may have it")
        return
    written = {file.path.removeprefix(f"{out}/"): file.md5 for file in listed[1:]}
    # register puts the decoding settings of the evaluation into text.json, and so its digest into the manifest
    other = [
        name
        for name in written
        if name not in ("text.json", MANIFEST) and packaged.get(name) != written[name]
    ]
    if other:
        yield Link("weights", "failed", f"not what {train.name} wrote: {', '.join(other)}")
    else:
        yield Link("weights", "ok", f"what {train.name} wrote")


def _run(
    client: MlflowClient, version: Version, lineage: dict[str, Any], stages: dict[str, StageRecord]
) -> Iterator[Link]:
    from mlflow.exceptions import MlflowException

    if version.run_id is None:
        yield Link(
            "run", "failed", "the version belongs to no training run: the record was lost before it was made"
        )
        return
    try:
        run = client.get_run(version.run_id)
    except MlflowException as error:
        yield Link("run", "failed", f"MLflow has no run {version.run_id} ({error})")
        return
    fingerprint = run.data.tags.get(FINGERPRINT_TAG)
    if fingerprint != lineage["fingerprint"]:
        yield Link(
            "run",
            "failed",
            f"run {version.run_id} is of training {fingerprint}, not {lineage['fingerprint']}",
        )
        return
    train = stages.get(f"train@{lineage['model']}")
    inputs = run.inputs.dataset_inputs if run.inputs is not None else []
    read = {json.loads(one.dataset.source)["path"]: one.dataset.digest for one in inputs}
    for path, digest in read.items():
        if train is not None and train.deps.get(path, digest) != digest:
            yield Link("run", "failed", f"it read {path} with MD5 {digest}, dvc.lock said {train.deps[path]}")
            return
    yield Link("run", "ok", f"{run.info.run_name} ({version.run_id}), {len(read)} data sets")


def _commit(lineage: dict[str, Any], root: Path) -> Iterator[Link]:
    commit = lineage["git_commit"]
    if commit is None:
        yield Link("commit", "unchecked", "the training was not under git")
        return
    known = subprocess.run(
        ["git", "-C", str(root), "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False
    )
    if known.returncode != 0:
        yield Link("commit", "failed", f"git does not know commit {commit}")
    elif has_changes(lineage):
        yield Link(
            "commit", "ok", f"{commit}, with uncommitted changes (SHA-256 {lineage['git_diff_sha256']})"
        )
    else:
        yield Link("commit", "ok", commit)


def has_changes(lineage: dict[str, Any]) -> bool:
    """Whether tracked files differed from the commit; files that git did not know are not counted."""
    return bool(
        lineage["git_dirty"] == "yes" and lineage["git_diff_sha256"] != hashlib.sha256(b"").hexdigest()
    )


def _data(lineage: dict[str, Any], stages: dict[str, StageRecord], root: Path) -> Iterator[Link]:
    """What each stage read and wrote, in the working copy where that is of the same state, and in DVC's cache."""
    if not stages:
        yield Link("data", "unchecked", "DVC did not make this model")
        return
    made = {path for stage in stages.values() for path in stage.outs}
    try:
        current = {path: md5 for stage in read_lock(root).values() for path, md5 in stage.outs.items()}
        cache = cache_directory(root)
    except PrecisError as error:
        yield Link("data", "failed", str(error))
        return
    # code and other files that no stage made: many, so that those that hold are told in one line
    holding = 0
    sources = {path: md5 for stage in stages.values() for path, md5 in stage.deps.items()}
    for path, md5 in sources.items():
        if any(path == out or path.startswith(out + "/") for out in made):
            continue
        link = _source(path, md5, lineage, root)
        if link.state == "ok":
            holding += 1
        else:
            yield link
    yield Link(
        "sources", "ok", f"{holding} files and folders of code, pins and given data are what dvc.lock had"
    )
    for stage in stages.values():
        for path, md5 in stage.outs.items():
            yield _output(stage.name, path, md5, root, cache, is_current=current.get(path) == md5)


def _output(stage: str, path: str, md5: str, root: Path, cache: Path, *, is_current: bool) -> Link:
    where = f"{stage}: {path}"
    seen = []
    if is_current and (root / path).exists():
        found = md5_of(root / path)
        if found != md5:
            return Link(where, "failed", f"MD5 in the working copy is {found}, dvc.lock has {md5}")
        seen.append("the working copy")
    files = cached_files(cache, path, md5)
    if files is not None:
        problems = damaged(files)
        if problems:
            return Link(where, "failed", "; ".join(problems))
        seen.append("DVC's cache")
    if not seen:
        return Link(where, "unchecked", f"{md5} is not on this machine: `dvc pull` may have it")
    return Link(where, "ok", f"{md5} in {' and '.join(seen)}")


def _source(path: str, md5: str, lineage: dict[str, Any], root: Path) -> Link:
    """Something that no stage made: code, which git has, or the user's files."""
    if (root / path).exists() and md5_of(root / path) == md5:
        return Link(path, "ok", f"{md5} in the working copy")
    commit = lineage["git_commit"]
    if commit is not None and not has_changes(lineage):
        found = _md5_in_git(commit, path, root)
        if found == md5:
            return Link(path, "ok", f"{md5} in commit {commit[:12]}")
        # of a folder git may not have all: what .gitignore names, DVC counts
        if found is not None and not md5.endswith(".dir"):
            return Link(path, "failed", f"MD5 in commit {commit[:12]} is {found}, dvc.lock had {md5}")
    return Link(path, "unchecked", f"{md5} is not what the working copy has now, nor git alone")


def _md5_in_git(commit: str, path: str, root: Path) -> str | None:
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-tree", "-r", "-z", "--name-only", commit, "--", path],
        capture_output=True,
        check=False,
        text=True,
    )
    names = [name for name in listed.stdout.split("\0") if name]
    if not names:
        return None
    digests = {}
    for name in names:
        blob = subprocess.run(
            ["git", "-C", str(root), "show", f"{commit}:{name}"], capture_output=True, check=True
        )
        digests[name] = hashlib.md5(blob.stdout, usedforsecurity=False).hexdigest()
    if names == [path]:
        return digests[path]
    listing = [{"md5": digests[name], "relpath": os.path.relpath(name, path)} for name in names]
    listing.sort(key=lambda entry: entry["relpath"])
    return (
        hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"
    )


def _environment(lineage: dict[str, Any], root: Path) -> Link:
    expected, constraints = lineage["environment_sha256"], root / "constraints.txt"
    if expected is None or not constraints.is_file():
        return Link("environment", "unchecked", "no constraints.txt")
    if file_digest(constraints) == expected:
        return Link("environment", "ok", "constraints.txt is the one of the training")
    return Link(
        "environment", "unchecked", "constraints.txt has changed since: other packages may be installed"
    )
