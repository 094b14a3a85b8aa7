"""What is wrong with this working copy, and how to put it right."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from packaging.requirements import Requirement

from precis.errors import PrecisError
from precis.params import Params, load_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

FEWEST_FREE_BYTES = 2_000_000_000
LONGEST_RUN_HOURS = 12.0  # a run that has been RUNNING for longer, with no training at work, is dead
OLDEST_PART_HOURS = 24.0
# a folder that is not there yet is made by `dvc push`; one whose parent is missing is on no mounted disk
_TRY_REMOTES = """
import json
from dvc.repo import Repo

repo, failed = Repo("."), []
for name in repo.config["remote"]:
    try:
        odb = repo.cloud.get_remote_odb(name)
        if not odb.fs.exists(odb.path) and not odb.fs.exists(odb.fs.parent(odb.path)):
            failed.append([name, "its folder is not found"])
    except Exception as error:
        failed.append([name, f"{type(error).__name__}: {error}"[:300]])
print(json.dumps(failed))
"""


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
    trace: Annotated[
        bool,
        typer.Option(help="also run every stage on a small corpus and compare what it reads with dvc.yaml"),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object for each check, with what is wrong")
    ] = False,
) -> None:
    """Check environment, parameters, pipeline, stores, locks, disk and runs; exit 1 if something is wrong."""
    root = Path.cwd()
    num_problems = 0
    checks = {**CHECKS, TRACED: _traced} if trace else CHECKS
    for name, check in checks.items():
        if name == TRACED:
            print("    every stage on a small corpus: a minute or two", file=sys.stderr, flush=True)
        problems = list(check(root))
        told = []
        for problem in problems:
            repaired = repair and problem.apply is not None
            if repaired and problem.apply is not None:
                problem.apply()
            num_problems += not repaired
            told.append({"found": problem.found, "repair": problem.repair, "repaired": repaired})
            told[-1]["safe"] = problem.apply is not None
        if as_json:
            print(json.dumps({"check": name, "ok": not problems, "problems": told}), flush=True)
        else:
            _tell(name, told)
    if num_problems:
        raise typer.Exit(1)


def _tell(name: str, problems: list[dict[str, Any]]) -> None:
    print(f"{'ok ' if not problems else 'BAD'}  {name}")
    for problem in problems:
        print(f"       {problem['found']}")
        by_itself = " (or: precis doctor --repair)" if problem["safe"] else ""
        print(
            f"       repaired: {problem['repair']}"
            if problem["repaired"]
            else f"       -> {problem['repair']}{by_itself}"
        )


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
        print(f"       (a pipeline is at work: process {holder})", file=sys.stderr)


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
    if (why := _mlflow_is_silent(root)) is not None:
        yield Problem(f"MLflow's store does not answer: {why}", "check MLFLOW_TRACKING_URI, or unset it")
    url = os.environ.get("PREFECT_API_URL")
    if url:
        try:
            _ask_prefect(url, "health")
        except (OSError, ValueError) as error:
            yield Problem(
                f"Prefect does not answer at {url}: {error}",
                "start it (make serve-flows), or unset PREFECT_API_URL",
            )
    yield from _remotes(root)


def _remotes(root: Path) -> Iterator[Problem]:
    """The places that `dvc push` and `dvc pull` use."""
    done = subprocess.run(
        [sys.executable, "-c", _TRY_REMOTES], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        return  # told by the check of dvc.yaml
    for name, why in json.loads(done.stdout.splitlines()[-1]):
        yield Problem(
            f"the DVC remote {name} cannot be reached: {why}",
            f"check the network and the credentials, or: dvc remote modify {name} url …",
        )


@cache
def _mlflow_is_silent(root: Path) -> str | None:
    """Why MLflow's store does not answer; None if it does."""
    try:
        _client(root).search_experiments(max_results=1)
    except Exception as error:  # whatever a store may raise, it is not reachable
        return str(error)[:300]
    return None


def _ask_prefect(url: str, path: str, question: object = None) -> Any:
    import urllib.request

    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(  # noqa: S310  # the user's own setting
        f"{url}/{path}", data=data, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return json.load(answer)


def _runs(root: Path) -> Iterator[Problem]:
    if _mlflow_is_silent(root) is None:
        yield from _undelivered(root)
        yield from _dead_trainings(root)
        yield from _open_records(root)
    yield from _dead_flow_runs()


def _undelivered(root: Path) -> Iterator[Problem]:
    """What MLflow did not take when it was found."""
    from precis.training.parcels import deliver, waiting

    parcels = waiting(root)
    if parcels:
        folders = ", ".join(str(parcel.directory.relative_to(root)) for parcel in parcels)
        yield Problem(
            f"{' and '.join(parcel.contents for parcel in parcels)} wait for MLflow in {folders}",
            "send them; the next make repro does the same",
            partial(deliver, root),
        )


def _dead_trainings(root: Path) -> Iterator[Problem]:
    from precis.registry.promotion import experiment_name

    client, params = _client(root), _read_params(root)
    promotions = experiment_name(params.registry.name) if params is not None else None
    experiments = [
        experiment.experiment_id
        for experiment in client.search_experiments()
        if experiment.name != promotions  # an open record there may have taken effect
    ]
    if not experiments:
        return
    at_work = any(_holder(lock) is not None for lock in (root / ".work/train").glob("*/lock"))
    oldest = (time.time() - LONGEST_RUN_HOURS * 3600) * 1000
    for run in client.search_runs(experiments, filter_string="attributes.status = 'RUNNING'"):
        if at_work and run.info.start_time > oldest:
            continue
        since = datetime.fromtimestamp(run.info.start_time / 1000, tz=UTC)
        yield Problem(
            f"run {run.info.run_name} ({run.info.run_id}) is RUNNING since {since:%Y-%m-%d %H:%M} UTC, but "
            + (
                f"no training takes {LONGEST_RUN_HOURS:g} hours" if at_work else "no training is at work here"
            ),
            "call it KILLED; training it again goes on from its checkpoint",
            partial(client.set_terminated, run.info.run_id, "KILLED"),
        )


def _open_records(root: Path) -> Iterator[Problem]:
    from precis.registry.promotion import champion_of, open_records

    client, params = _client(root), _read_params(root)
    if params is None:
        return
    name = params.registry.name
    for record in open_records(client, name):
        yield Problem(
            f"record {record.number} of the history ({record.event} of version {record.version}) was cut off",
            "settle it: the aliases tell whether it took effect; the next promotion does the same",
            partial(champion_of, client, name),
        )


def _dead_flow_runs() -> Iterator[Problem]:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return
    oldest = datetime.now(tz=UTC) - timedelta(hours=LONGEST_RUN_HOURS)
    running = {
        "flow_runs": {
            "state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}},
            "start_time": {"before_": oldest.isoformat()},
        },
        "flows": {"name": {"any_": ["retrain", "reproduce"]}},
    }
    try:
        found = _ask_prefect(url, "flow_runs/filter", running)
    except (OSError, ValueError):
        return  # told by the stores
    for run in found:
        state = {"state": {"type": "CRASHED", "message": "closed by precis doctor"}, "force": True}
        yield Problem(
            f"flow run {run['name']} ({run['id']}) is {run['state_type']} since {run['start_time'][:16]}, and "
            f"every flow ends within {LONGEST_RUN_HOURS:g} hours",
            "call it crashed, so that its place is free",
            partial(_ask_prefect, url, f"flow_runs/{run['id']}/set_state", state),
        )


def _registry(root: Path) -> Iterator[Problem]:
    from precis.registry.packaging import unpacked
    from precis.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, find_alias, get_version

    params = _read_params(root)
    if params is None or _mlflow_is_silent(root) is not None:
        return
    client, name = _client(root), params.registry.name
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


def _traced(root: Path) -> Iterator[Problem]:
    """Run each stage in a scratch copy under watch: a forgotten dependency leaves results that look fresh."""
    from precis.health.small_project import make_small_project
    from precis.health.watched_stage import declared_stages, gaps, watch_stage

    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
    }
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
    ):  # the record of the working copy stays as it is
        environment.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="precis-doctor-") as folder:
        scratch = Path(folder).resolve() / root.name
        try:
            make_small_project(root, scratch)
            for stage in declared_stages(scratch):
                print(f"    {stage.name}", file=sys.stderr, flush=True)
                for gap in gaps(stage, watch_stage(scratch, stage, environment)):
                    yield Problem(gap.found, gap.repair)
        except PrecisError as error:
            yield Problem(str(error), "put that right, then run precis doctor --trace again")


def _read_params(root: Path) -> Params | None:
    try:
        return load_params(root / "params.yaml")
    except PrecisError:
        return None  # told by its own check


def _client(root: Path) -> MlflowClient:
    from precis.training.tracking import configure

    return configure(root)


TRACED = "dvc.yaml, traced"
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
