"""What is wrong with this working copy, and how to put it right."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from packaging.requirements import Requirement

from precis.errors import PrecisError
from precis.params import Params, load_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

FEWEST_FREE_BYTES = 2_000_000_000
LONGEST_RUN_HOURS = 12.0  # a run that has been RUNNING for longer, with no training at work, is dead
OLDEST_PART_HOURS = 24.0
MOST_NAMED = 5  # of several problems of one kind


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        found: what, and where.
        repair: what to do about it.
        apply: does it; None where a person has to.
    """

    found: str
    repair: str
    apply: Callable[[], object] | None = None


def doctor(
    repair: Annotated[bool, typer.Option(help="apply the repairs that are safe")] = False,
) -> None:
    """Check environment, parameters, pipeline, stores, locks, disk and runs; exit 1 if something is wrong."""
    root = Path.cwd()
    num_problems = 0
    for name, check in CHECKS.items():
        problems = list(check(root))
        print(f"{'ok ' if not problems else 'BAD'}  {name}")
        for problem in problems:
            print(f"       {problem.found}")
            if repair and problem.apply is not None:
                problem.apply()
                print(f"       repaired: {problem.repair}")
            else:
                num_problems += 1
                by_itself = " (or: precis doctor --repair)" if problem.apply is not None else ""
                print(f"       -> {problem.repair}{by_itself}")
    if num_problems:
        raise typer.Exit(1)


def _environment(root: Path) -> Iterator[Problem]:
    constraints = root / "constraints.txt"
    if not constraints.is_file():
        yield Problem("constraints.txt is missing", "git checkout constraints.txt")
        return
    lines = constraints.read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if re.match("[A-Za-z0-9]", line)]
    pins = {one.name: str(one.specifier) for one in wanted if one.marker is None or one.marker.evaluate()}
    needed = [
        re.split(r"[ <>=!~;\[]", wanted)[0]
        for wanted in distribution("precis").requires or []
        if "extra ==" not in wanted
    ]
    wrong = []
    for package in needed:
        try:
            found = version(package).split("+")[0]
        except PackageNotFoundError:
            wrong.append(f"{package} is not installed")
            continue
        if f"=={found}" != (pin := pins.get(package, f"=={found}")):
            wrong.append(f"{package} is {found}, pinned to {pin.removeprefix('==')}")
    if wrong:
        yield Problem("; ".join(wrong), "make set-up")


def _params(root: Path) -> Iterator[Problem]:
    try:
        load_params(root / "params.yaml")
    except PrecisError as error:
        yield Problem(str(error), "put params.yaml right; docs and comments in it say what is expected")


def _graph(root: Path) -> Iterator[Problem]:
    listed = _dvc(root, "stage", "list", "--name-only")
    if listed.returncode != 0:
        yield Problem(f"dvc.yaml cannot be read: {listed.stderr.strip()[:500]}", "git diff dvc.yaml")
        return
    status = _dvc(root, "status", "--json")
    if status.returncode != 0:
        yield Problem(f"dvc status fails: {status.stderr.strip()[:500]}", "python flows/pipeline.py")


def _dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def _locks(root: Path) -> Iterator[Problem]:
    from precis.registry.dvc_lock import read_lock

    if (root / "dvc.lock").exists():
        try:
            read_lock(root)
        except PrecisError as error:
            yield Problem(str(error), "python flows/pipeline.py repairs it before it runs anything")
    rwlock = root / ".dvc/tmp/rwlock"
    if rwlock.exists():
        try:
            json.loads(rwlock.read_text(encoding="utf-8"))
        except ValueError:
            yield Problem(f"{rwlock.relative_to(root)} is cut short", "python flows/pipeline.py repairs it")
    holder = _holder(root / ".work/pipeline.lock")
    if holder is not None:
        print(f"       (a pipeline is at work: process {holder})")


def _holder(lock: Path) -> str | None:
    """Who holds a lock file; None if nobody."""
    if not lock.exists():
        return None
    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "unknown"
    return None


def _disk(root: Path) -> Iterator[Problem]:
    free = shutil.disk_usage(root).free
    if free < FEWEST_FREE_BYTES:
        yield Problem(
            f"{free / 1e9:.1f} GB are free, {FEWEST_FREE_BYTES / 1e9:.0f} are wanted",
            "dvc gc --workspace --all-commits removes what no commit needs; it also forgets data of older versions",
        )
    oldest = time.time() - OLDEST_PART_HOURS * 3600
    left = [
        path
        for folder in ("data", "models", "reports", ".work")
        for path in (root / folder).rglob(".*.part")
        if path.lstat().st_mtime < oldest
    ]
    if left:
        yield Problem(
            f"{len(left)} half-written files of killed processes, such as {left[0].relative_to(root)}",
            "remove them",
            partial(_remove, left),
        )


def _remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _stores(root: Path) -> Iterator[Problem]:
    try:
        _client(root).search_experiments(max_results=1)
    except Exception as error:  # whatever a store may raise, it is not reachable
        yield Problem(
            f"MLflow's store does not answer: {str(error)[:300]}", "check MLFLOW_TRACKING_URI, or unset it"
        )
    url = os.environ.get("PREFECT_API_URL")
    if url:
        import urllib.request

        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310  # the user's own setting
                pass
        except (OSError, ValueError) as error:
            yield Problem(
                f"Prefect does not answer at {url}: {error}",
                "start it (make serve-flows), or unset PREFECT_API_URL",
            )


def _runs(root: Path) -> Iterator[Problem]:
    client = _client(root)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    if not experiments:
        return
    at_work = any(_holder(lock) is not None for lock in (root / ".work/train").glob("*/lock"))
    oldest = (time.time() - LONGEST_RUN_HOURS * 3600) * 1000
    for run in client.search_runs(experiments, filter_string="attributes.status = 'RUNNING'"):
        if not at_work or run.info.start_time < oldest:
            yield Problem(
                f"run {run.info.run_name} ({run.info.run_id}) is RUNNING, but no training is at work",
                "call it KILLED; training it again goes on from its checkpoint",
                partial(client.set_terminated, run.info.run_id, "KILLED"),
            )


def _registry(root: Path) -> Iterator[Problem]:
    from precis.registry.packaging import unpacked
    from precis.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, find_alias, get_version

    client, params = _client(root), _read_params(root)
    if params is None:
        return
    name = params.registry.name
    for alias in (CHAMPION, CHALLENGER, PREVIOUS):
        found = find_alias(client, name, alias)
        if found is None:
            continue
        try:
            with unpacked(found.uri, digest=found.digest):
                pass
        except PrecisError as error:
            repair = "precis rollback" if alias == CHAMPION else "dvc repro --force --single-item register"
            yield Problem(f"{alias}: {error}", repair)
    registered = root / "reports/registered.json"
    if registered.is_file():
        number = json.loads(registered.read_text(encoding="utf-8"))["version"]
        try:
            get_version(client, name, number)
        except PrecisError as error:
            yield Problem(
                f"reports/registered.json is of another registry: {error}",
                "dvc repro --force --single-item register",
            )


def _read_params(root: Path) -> Params | None:
    try:
        return load_params(root / "params.yaml")
    except PrecisError:
        return None  # told by its own check


def _client(root: Path) -> MlflowClient:
    from precis.training.tracking import configure

    return configure(root)


CHECKS: dict[str, Callable[[Path], Iterator[Problem]]] = {
    "environment": _environment,
    "params.yaml": _params,
    "dvc.yaml": _graph,
    "lock files": _locks,
    "disk": _disk,
    "stores": _stores,
    "runs": _runs,
    "registry": _registry,
}
