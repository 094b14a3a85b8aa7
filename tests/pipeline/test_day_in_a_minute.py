"""A day of nightly retraining in a few minutes, with what goes wrong in a year.

Server, worker and a schedule of a few seconds; data that stays, changes and breaks; the worker, the server and
the training process are killed on the way.
"""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request

import psutil
import pytest
from project import Project, write_tickets
from ruamel.yaml import YAML

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]
INTERVAL = 12  # seconds between two scheduled runs
PORT = 4299


class Day:
    """The project with its services, and what can be seen of them from outside."""

    def __init__(self, folder):
        self.project = Project(folder / "tickets")
        self.prefect_home = folder / "prefect"
        self.only_the_pointer()
        self.most_at_once = 0
        self.watching = True
        self.watcher = threading.Thread(target=self.watch)
        self.watcher.start()

    def only_the_pointer(self):
        yaml = YAML()
        path = self.project.folder / "dvc.yaml"
        graph = yaml.load(path.read_text())
        others = ("encoder_decoder", "attention")
        for stage in graph["stages"].values():
            if "matrix" in stage:
                stage["matrix"]["model"] = ["pointer"]
            deps = stage.get("deps", [])
            stage["deps"] = [
                dep for dep in deps if not any(f"/{name}" in f"{dep}/" for name in others) or "src" in dep
            ]
        del graph["plots"]
        with path.open("w") as file:
            yaml.dump(graph, file)
        path = self.project.folder / "prefect.yaml"
        deployments = yaml.load(path.read_text())
        deployments["deployments"][1]["schedules"] = [{"interval": INTERVAL}]
        with path.open("w") as file:
            yaml.dump(deployments, file)
        self.commit("One model, a short night")

    def commit(self, why):
        self.project.run("git", "add", "-A")
        self.project.run(
            "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", why, check=False
        )

    def start(self):
        environment = {**self.project.environment, "PREFECT_HOME": str(self.prefect_home)}
        environment.pop("PREFECT_API_URL", None)
        self.services = subprocess.Popen(
            [sys.executable, "flows/serve.py", "--port", str(PORT)],
            cwd=self.project.folder,
            env=environment,
            stdout=(self.project.folder.parent / "services.log").open("wb"),
            stderr=subprocess.STDOUT,
        )

    def processes(self):
        """All that works in the project's folder or for its server."""
        found = []
        for process in psutil.process_iter(["cmdline", "cwd", "status"]):
            line = " ".join(process.info["cmdline"] or [])
            here = (process.info["cwd"] or "").startswith(str(self.project.folder))
            if (here or f"--port {PORT}" in line) and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append((process.pid, line))
        return found

    def trainings(self):
        return [pid for pid, line in self.processes() if "-m precis.stages." in line and "sh -c" not in line]

    def watch(self):
        while self.watching:
            self.most_at_once = max(self.most_at_once, len(self.trainings()))
            time.sleep(0.2)

    def states(self):
        """How the flow runs of `retrain` ended, oldest first."""
        database = self.prefect_home / "prefect.db"
        if not database.exists():
            return []
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10) as connection:
            rows = connection.execute(
                "select state_name from flow_run where deployment_id is not null and end_time is not null"
                " order by end_time"
            )
            return [name for (name,) in rows]

    def history(self):
        done = self.project.run("precis", "history", "--json", check=False)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def wait(self, what, condition, seconds=240):
        end = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except sqlite3.OperationalError:  # the server is being killed just now
                pass
            assert time.monotonic() < end, f"waited in vain: {what}; ended so far: {self.states()}"
            time.sleep(0.5)

    def wait_for_more(self, name):
        before = self.states().count(name)
        self.wait(name, lambda: self.states().count(name) > before)

    def kill(self, part):
        """Kill -9 the processes whose command line has `part`."""
        found = [pid for pid, line in self.processes() if part in line and "sh -c" not in line]
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return bool(found)

    def cancel(self):
        """Cancel the flow run that is under way, as the button of the UI does."""
        with sqlite3.connect(f"file:{self.prefect_home / 'prefect.db'}?mode=ro", uri=True) as connection:
            ((run,),) = connection.execute("select id from flow_run where state_name = 'Running'").fetchall()
        request = urllib.request.Request(
            f"http://127.0.0.1:{PORT}/api/flow_runs/{run}/set_state",
            data=b'{"state": {"type": "CANCELLING"}}',
            headers={"content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture
def day(tmp_path):
    day = Day(tmp_path)
    day.start()
    yield day
    day.watching = False
    day.watcher.join()
    if day.services.poll() is None:
        day.services.kill()
    for pid, _ in day.processes():
        os.kill(pid, signal.SIGKILL)


def test_a_day_in_a_minute(day):
    project = day.project
    day.wait("the first champion", lambda: [record["event"] for record in day.history()] == ["promote"])

    # nothing new
    day.wait_for_more("Unchanged")

    # better; the worker is killed while it trains
    project.set_params({"train": {"max_epochs": 12}})
    day.commit("Train longer")
    day.wait("a training", lambda: bool(day.trainings()))
    assert day.kill("prefect worker start")
    day.wait(
        "a better champion", lambda: [record["event"] for record in day.history()] == ["promote"] * 2, 400
    )
    assert day.history()[-1]["champion_after"] == 2

    # worse; the server is killed while it trains
    project.set_params({"train": {"max_epochs": 1, "learning_rate": 0.0001}})
    day.commit("Train badly")
    day.wait("a training", lambda: bool(day.trainings()))
    assert day.kill("prefect server start")
    day.wait("a refusal", lambda: day.history()[-1]["event"] == "keep", 400)
    assert day.history()[-1]["champion_after"] == 2

    # a file that is no JSON
    broken = project.folder / "data/source/broken.jsonl"
    broken.write_bytes(b"\x00\xff not json\n" * 400)
    day.wait_for_more("Failed")
    broken.unlink()

    # new data and the good parameters; a person cancels the run, and the training process of the next is killed
    project.set_params({"train": {"max_epochs": 12, "learning_rate": 0.01}})
    write_tickets(project.folder / "data/source/more.jsonl", 100, seed=2)
    more = project.folder / "data/source/more.jsonl"
    more.write_text(more.read_text().replace('"ticket-', '"later-'))
    day.commit("More tickets")
    day.wait(
        "a training",
        lambda: "train" in " ".join(line for _, line in day.processes() if "precis.stages" in line),
    )
    day.cancel()
    day.wait("the end of a cancelled training", lambda: not day.trainings(), 15)
    day.wait("a training", lambda: day.kill("precis.stages.train"))
    day.wait("a decision on it", lambda: day.history()[-1]["version"] not in (1, 2, 3), 400)
    last = day.history()[-1]
    assert last["champion_after"] == (last["version"] if last["event"] == "promote" else 2)

    # nothing ran twice at once, nobody moved the champion but the gate, and each step has its reason
    assert day.most_at_once == 1
    records = day.history()
    assert {record["event"] for record in records} <= {"promote", "keep"}
    assert all(record["reason"] and record["by"].startswith("flow run ") for record in records)
    verified = project.run("precis", "verify", "models:/precis@champion")
    assert "all links hold" in verified.stdout

    # and nothing is left
    day.services.terminate()
    day.services.wait(60)
    day.wait("the end of all processes", lambda: not day.processes(), 15)
