"""Server, worker and schedule of a project, as `make serve-flows` runs them, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from project import Project
from ruamel.yaml import YAML


class Services:
    """The services of a project.

    Args:
        project: with its flows and its prefect.yaml.
        folder: for the server's database and the log.
        workers: how many of Prefect's.
    """

    def __init__(self, project: Project, folder: Path, workers: int = 1) -> None:
        self.project = project
        self.workers = workers
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.most_at_once = 0
        self._watching = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def start(self) -> None:
        environment = {**self.project.environment, "PREFECT_HOME": str(self.folder / "prefect")}
        environment.pop("PREFECT_API_URL", None)
        with (self.folder / "services.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "flows/serve.py", "--port", str(self.port), "--workers", str(self.workers)],
                cwd=self.project.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        """As Ctrl-C does; nothing is left a few seconds later."""
        self.process.terminate()
        self.process.wait(60)
        self.wait("the end of all processes", lambda: not self.processes(), 15)

    def close(self) -> None:
        """After a test, however it went."""
        self._watching.set()
        self._watcher.join()
        if self.process.poll() is None:
            self.process.kill()
        for pid, _ in self.processes():
            os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[tuple[int, str]]:
        """All that works in the project's folder or for its server."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            here = (process.info["cwd"] or "").startswith(str(self.project.folder))
            if (here or f"--port {self.port}" in line) and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append((process.pid, line))
        return found

    def stages(self) -> list[tuple[int, str]]:
        """The stages that are at work."""
        return [
            (pid, line)
            for pid, line in self.processes()
            if "-m precis.stages." in line and "sh -c" not in line
        ]

    def kill(self, part: str) -> bool:
        """Kill -9 the processes whose command line has `part`; whether there was one."""
        found = [pid for pid, line in self.processes() if part in line and "sh -c" not in line]
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return bool(found)

    def ask(self, path: str, question: Any = None, method: str = "POST") -> Any:
        """Ask the server, as its UI does."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            data=json.dumps(question or {}).encode(),
            headers={"content-type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def runs(self, **of: Any) -> list[dict[str, Any]]:
        """Flow runs, the newest 200, by the time they were due."""
        question = (
            {"flow_runs": of, "sort": "EXPECTED_START_TIME_DESC", "limit": 200} if of else {"limit": 200}
        )
        return sorted(self.ask("flow_runs/filter", question), key=lambda run: run["expected_start_time"])

    def ended(self) -> list[dict[str, Any]]:
        """Flow runs that have ended, as they ended."""
        ends = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
        runs = self.runs(state={"type": {"any_": ends}})
        return sorted((run for run in runs if run["end_time"]), key=lambda run: run["end_time"])

    def states(self) -> list[str]:
        """The names of the states in which flow runs ended."""
        return [run["state_name"] for run in self.ended()]

    def deployment(self, name: str) -> str:
        """The id of a deployment, such as retrain/retrain."""
        return str(self.ask(f"deployments/name/{name}", method="GET")["id"])

    def set_state(self, run: str, kind: str) -> None:
        self.ask(f"flow_runs/{run}/set_state", {"state": {"type": kind}})

    def wait(self, what: str, condition: Callable[[], object], seconds: float = 1200) -> Any:
        """Wait until the condition gives something; a server that is down just now is no answer."""
        end = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except OSError:
                pass
            assert time.monotonic() < end, f"waited in vain: {what}\n{self.last_words()}"
            time.sleep(0.5)

    def last_words(self) -> str:
        return (self.folder / "services.log").read_text(errors="replace")[-3000:]

    def _watch(self) -> None:
        while not self._watching.wait(0.5):
            self.most_at_once = max(self.most_at_once, len(self.stages()))


def edit_yaml(path: Path, edit: Callable[[Any], None]) -> None:
    """Change a YAML file in place."""
    yaml = YAML()
    values = yaml.load(path.read_text())
    edit(values)
    with path.open("w") as file:
        yaml.dump(values, file)
