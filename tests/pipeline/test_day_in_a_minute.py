"""A day of nightly retraining in a few minutes, with what goes wrong in a year.

Server, workers and a schedule of a few seconds; data that stays, changes, breaks and drifts; a worker, the server
and the training process are killed on the way. Once with all stores in files and one worker; once with MLflow and
Prefect in PostgreSQL, the corpus and MLflow's files in an S3 store, and two workers.
"""

import json
import os
import signal
from contextlib import nullcontext

import psutil
import pytest
from mlflow import MlflowClient
from project import Project, write_tickets
from real_stores import move_corpus, real_stores

from precis.training.database import create_tables, is_database
from services import Services, edit_yaml

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200)]
INTERVAL = 12  # seconds between two scheduled runs
NEW = "data/source/new.jsonl"  # what came in since


class Day(Services):
    """The project of a day with its history.

    Args:
        folder: for all of it.
        stores: real ones; None: files in the folder.
        workers: how many of Prefect's.
    """

    def __init__(self, folder, stores, workers):
        environment = stores.environment if stores is not None else None
        super().__init__(Project(folder / "tickets", stores=environment), folder, workers=workers)
        self.stores = stores
        self.new_documents = NEW
        self.project.keep_only("pointer")
        if stores is not None:
            self.new_documents = f"{move_corpus(self.project, stores, 'source')}/new.jsonl"
        edit_yaml(self.project.folder / "prefect.yaml", self.every_few_seconds)
        self.commit("One model, a short night")

    def every_few_seconds(self, deployments):
        retrain = next(one for one in deployments["deployments"] if one["name"] == "retrain")
        retrain["schedules"] = [{"interval": INTERVAL}]
        retrain["parameters"]["new_documents"] = self.new_documents

    def commit(self, why):
        who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        self.project.run("git", "add", "-A")
        self.project.run("git", *who, "commit", "-qm", why, check=False)

    def write_new(self, change):
        """A hundred new tickets, each text changed."""
        part = self.folder / "new.jsonl"
        write_tickets(part, 100, seed=2)
        self.put_new(change(part.read_text().replace('"ticket-', '"later-')).encode())

    def put_new(self, content):
        """The file of new tickets, whole at once as one that is moved in; None takes it away."""
        if self.stores is not None:
            file = self.stores.bucket().Object("source/new.jsonl")
            file.delete() if content is None else file.put(Body=content)
            return
        path = self.project.folder / NEW
        if content is None:
            path.unlink()
        else:
            part = path.with_name(".new.part")
            part.write_bytes(content)
            part.replace(path)

    def history(self):
        done = self.project.run("precis", "history", "--json", check=False)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def num_decisions(self):
        """How many records the history has: asked of the store itself, as `precis history` takes seconds to start."""
        uri = (
            self.project.stores.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.project.folder / 'mlflow.db'}"
        )
        if uri.startswith("sqlite") and not (self.project.folder / "mlflow.db").exists():
            return 0  # asking would make it
        if is_database(uri):
            create_tables(uri)  # as precis does, one process after the other
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("precis promotions")
        if experiment is None:
            return 0
        return len(client.search_runs([experiment.experiment_id], "attributes.status = 'FINISHED'"))

    def last(self):
        return self.history()[-1]

    def wait_for_more(self, name):
        before = self.states().count(name)
        self.wait(name, lambda: self.states().count(name) > before)

    def wait_for_training(self):
        self.wait("a training", lambda: any("stages.train" in line for _, line in self.stages()))

    def kill_a_worker(self):
        """Kill the one that trains; whether there was one."""
        for pid, line in self.processes():
            if "prefect worker start" in line and self.is_above_a_stage(pid):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def is_above_a_stage(self, pid):
        below = {pid}
        # a stage has a session of its own, but its parents lead back to its worker
        while True:
            more = {child.pid for one in below for child in children(one)} - below
            if not more:
                return any(stage in below for stage, _ in self.stages())
            below |= more

    def cancel(self):
        """Cancel the flow run that is under way, as the button of the UI does."""
        (run,) = self.runs(state={"type": {"any_": ["RUNNING"]}})
        self.set_state(run["id"], "CANCELLING")


def children(pid):
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []


@pytest.fixture(params=["files", pytest.param("PostgreSQL and S3", marks=pytest.mark.services)])
def day(request, tmp_path, monkeypatch):
    with real_stores() if request.param != "files" else nullcontext() as stores:
        for name, value in (stores.environment if stores is not None else {}).items():
            monkeypatch.setenv(name, value)
        day = Day(tmp_path, stores, workers=1 if stores is None else 2)
        day.start()
        yield day
        day.close()


def test_a_day_in_a_minute(day):
    project = day.project
    day.wait("the first champion", lambda: day.num_decisions() == 1)
    assert day.last()["event"] == "promote"

    # nothing new
    day.wait_for_more("Unchanged")

    # better; the worker is killed while it trains
    project.set_params({"train": {"max_epochs": 12}})
    day.commit("Train longer")
    day.wait_for_training()
    assert day.kill_a_worker()
    day.wait("a better champion", lambda: day.num_decisions() == 2)
    assert (day.last()["event"], day.last()["champion_after"]) == ("promote", 2)

    # worse; the server is killed while it trains
    project.set_params({"train": {"max_epochs": 1, "learning_rate": 0.0001}})
    day.commit("Train badly")
    day.wait_for_training()
    assert day.kill("closed_server.py")
    day.wait("a refusal", lambda: day.num_decisions() == 3)
    assert (day.last()["event"], day.last()["champion_after"]) == ("keep", 2)

    # the good parameters again: the same bytes are version 2, which is champion already
    project.set_params({"train": {"max_epochs": 12, "learning_rate": 0.01}})
    day.commit("Train well again")
    day.wait("the end of it", lambda: project.json("reports/registered.json")["version"] == 2)
    day.wait_for_more("Unchanged")

    # corrupt: a file that is no JSON
    day.put_new(b"\x00\xff not json\n" * 400)
    day.wait_for_more("Failed")
    day.put_new(None)

    # new tickets like those before are not worth a training
    day.wait_for_more("Unchanged")
    day.write_new(lambda text: text)
    day.wait_for_more("NothingNew")
    assert day.num_decisions() == 3

    # drifted: people write about other things. A person cancels the training; that of the next run is killed
    day.write_new(
        lambda text: text.replace("lamp", "kettle").replace("came today", "never turned up anywhere")
    )
    day.wait_for_training()
    day.cancel()
    day.wait("the end of a cancelled training", lambda: not day.stages(), 60)
    day.wait("a training", lambda: day.kill("precis.stages.train"))
    day.wait("a decision on it", lambda: day.num_decisions() == 4)
    last = day.last()
    assert last["version"] == 4
    assert last["champion_after"] == (4 if last["event"] == "promote" else 2)
    rows = project.json("data/raw/checksums.json")
    assert sum(rows[split]["rows"] for split in ("train", "validation", "test")) == 400

    # nothing ran twice at once, nobody moved the champion but the gate, and each step has its reason
    assert day.most_at_once == 1
    records = day.history()
    assert [record["event"] for record in records[:3]] == ["promote", "promote", "keep"]
    assert "lead-1" in records[0]["reason"]
    assert "points of ROUGE F1 against version 1" in records[1]["reason"]
    assert "kept out: gain" in records[2]["reason"]
    assert all(record["by"].startswith("flow run ") for record in records)
    verified = project.run("precis", "verify", "models:/precis@champion")
    assert "all links hold" in verified.stdout
    champion = project.run("precis", "trace", "models:/precis@champion").stdout
    assert f"version     precis {last['champion_after']}," in champion

    # and nothing is left
    day.stop()
