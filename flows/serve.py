"""Server, workers and schedule on one machine, each started again when it ends: `make serve-flows`.

Everything listens on this machine only. The server keeps its state in PREFECT_HOME, or in the database that
PREFECT_API_DATABASE_CONNECTION_URL names, so that schedules and history survive a restart. Ctrl-C or SIGTERM ends
all of it, a flow run that is under way included.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pipeline

POOL = "precis"
CLOSED_SERVER = Path(__file__).with_name("closed_server.py")
# a flow run says every 30 s that it lives; after 90 s of silence it is called crashed, and its place is free
HEARTBEAT_SECONDS, SILENCE_SECONDS = 30, 90
TAKEN_SECONDS = 120.0  # a run that a worker has taken begins sooner, or its worker is dead
LONGEST_WAIT = 60.0  # seconds between two starts of something that ends at once


@dataclass
class Service:
    """A process that is started again when it ends."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)
    is_asked: bool = False  # to end

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def keep_alive(self, environment: Mapping[str, str]) -> None:
        """Start the process if it is not running, later and later if it keeps ending."""
        if self.is_alive():
            return
        now = time.monotonic()
        self.starts = [start for start in self.starts if now - start < 600]
        wait = min(LONGEST_WAIT, 2.0 ** len(self.starts) - 1) if self.starts else 0.0
        if self.starts and now - self.starts[-1] < wait:
            return
        if self.process is not None:
            print(f"{self.name} ended with {self.process.returncode}: starting it again", flush=True)
        self.starts.append(now)
        self.process = subprocess.Popen(self.command, env=dict(environment), start_new_session=True)
        self.is_asked = False

    def ask_to_end(self) -> None:
        """Tell the process to end, and do not wait; once, as Prefect takes a second signal for a kill."""
        if self.is_alive() and not self.is_asked:
            assert self.process is not None
            self.process.terminate()
            self.is_asked = True

    def stop(self, seconds: float) -> None:
        """End the process and what it started."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.ask_to_end()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                print(f"{self.name} does not end: killing it", flush=True)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


def serve(root: Path, port: int, num_workers: int) -> int:
    """Run until a signal; gives the exit code."""
    ended: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        ended.append(number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    pipeline.end_with_parent()
    url = f"http://127.0.0.1:{port}/api"
    environment = server_environment(url)
    prefect = [sys.executable, "-m", "prefect"]
    server = Service("server", [sys.executable, str(CLOSED_SERVER), "--port", str(port)])
    workers = [
        Service(name, [*prefect, "worker", "start", "--pool", POOL, "--type", "process", "--name", name])
        for name in (f"{socket.gethostname()}-{number}" for number in range(1, num_workers + 1))
    ]
    is_deployed = False
    tidy_at: float | None = None  # when others were at work while one died
    try:
        while not ended:
            server.keep_alive(environment)
            if is_healthy(url):
                if not is_deployed:
                    deploy(root, environment)
                    is_deployed = True
                    print(f"schedule: see http://127.0.0.1:{port}/deployments; Ctrl-C ends it", flush=True)
                if not any(worker.is_alive() for worker in workers):
                    run_self("--tidy-up", root, environment)
                elif not all(worker.is_alive() for worker in workers) and tidy_at is None:
                    tidy_at = time.monotonic() + TAKEN_SECONDS
                if tidy_at is not None and time.monotonic() > tidy_at:
                    tidy_at = None
                    run_self("--tidy-up-old", root, environment)
                for worker in workers:
                    worker.keep_alive(environment)
            time.sleep(0.5)
    finally:
        # the workers first: they end their flow runs, which the server is still told of
        for worker in workers:
            worker.ask_to_end()
        for worker in workers:
            worker.stop(pipeline.GRACE_SECONDS + 10)
        server.stop(10)
    return 128 + ended[0]


def server_environment(url: str) -> dict[str, str]:
    """Closed to other origins, silent towards the world, quick to see what died."""
    environment = pipeline.environment()
    password = environment.get("PREFECT_SERVER_API_AUTH_STRING")
    if password:
        environment.setdefault(
            "PREFECT_API_AUTH_STRING", password
        )  # what the worker and its runs log in with
    return {
        **environment,
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": url.removesuffix("/api"),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    }


def is_healthy(url: str) -> bool:
    """Whether the server answers."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310  # our own address
            return bool(json.load(answer) is True)
    except (OSError, ValueError, urllib.error.URLError):
        return False


def deploy(root: Path, environment: Mapping[str, str]) -> None:
    """Make the pool, the deployments of prefect.yaml and the automation that closes dead runs."""
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    for arguments in (
        ["work-pool", "create", "--type", "process", "--overwrite", POOL],
        ["deploy", "--all"],
    ):
        subprocess.run([*prefect, *arguments], cwd=root, env=dict(environment), check=True)
    run_self("--close-dead-runs", root, environment)


def run_self(option: str, root: Path, environment: Mapping[str, str]) -> None:
    """Talk to the server in a process of its own: this one imports no Prefect, and starts and ends at once."""
    subprocess.run([sys.executable, __file__, option], cwd=root, env=dict(environment), check=False)


def tidy_up(taken_before: float = 0.0) -> None:
    """Close what a dead worker leaves, and let one run catch up for all that were missed.

    A run that a killed worker had taken and not started sends no heartbeat that could stop, and would hold the one
    place of its deployment for ever. Of the runs that a schedule had made for the time when nothing ran here, the
    newest is left: it looks for all that is new.

    Args:
        taken_before: how many seconds ago a run must have been taken to be closed; 0 when no worker is alive.
    """
    from datetime import UTC, datetime, timedelta

    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterExpectedStartTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
        WorkPoolFilter,
        WorkPoolFilterName,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort
    from prefect.states import Cancelled, Crashed

    def in_states(*types: StateType) -> FlowRunFilterState:
        return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))

    taken = FlowRunFilter(state=in_states(StateType.PENDING, StateType.CANCELLING))
    due = FlowRunFilter(
        state=in_states(StateType.SCHEDULED),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(tz=UTC)),  # type: ignore[arg-type]  # pydantic converts it
    )
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    with get_client(sync_client=True) as client:
        long_ago = datetime.now(tz=UTC) - timedelta(seconds=taken_before)
        for run in client.read_flow_runs(flow_run_filter=taken, work_pool_filter=pool):
            if run.state is None or run.state.timestamp > long_ago:
                continue
            client.set_flow_run_state(run.id, Crashed(message="its worker died before it began"), force=True)
            print(f"closed {run.name}: its worker died before it began", flush=True)
        if taken_before:
            return  # those that are due, another worker will take
        caught_up = set()
        # at most 100 of a deployment: Prefect makes no more of them ahead
        for run in client.read_flow_runs(
            flow_run_filter=due, work_pool_filter=pool, sort=FlowRunSort.EXPECTED_START_TIME_DESC
        ):
            if run.auto_scheduled and run.deployment_id in caught_up:
                message = "missed while nothing ran here; a later run catches up for it"
                client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
            caught_up.add(run.deployment_id)


def close_dead_runs() -> None:
    """Have the server call a run crashed that has not been heard of: a killed worker leaves it RUNNING for ever."""
    from datetime import timedelta

    from prefect.automations import Automation
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    name = "precis: close dead runs"
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Crashed")}
    automation = Automation(
        name=name,
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENCE_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                name=None, state=StateType.CRASHED, message="not heard of since its process died", force=False
            )
        ],
    )
    try:
        Automation.read(name=name)  # type: ignore[unused-coroutine]  # outside of a loop both wait
    except ValueError:
        automation.create()


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=4200)
    parser.add_argument("--workers", type=int, default=1, help="when one dies, another goes on at once")
    parser.add_argument("--close-dead-runs", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tidy-up", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tidy-up-old", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.close_dead_runs:
        close_dead_runs()
        return 0
    if arguments.tidy_up:
        tidy_up()
        return 0
    if arguments.tidy_up_old:
        tidy_up(TAKEN_SECONDS)
        return 0
    if arguments.workers < 1:
        parser.error("--workers must be at least 1")
    return serve(Path.cwd(), arguments.port, arguments.workers)


if __name__ == "__main__":
    sys.exit(main())
