"""A day of nightly retraining in a few minutes, with what goes wrong in a year.

Server, worker and a schedule of a few seconds; data that stays, changes, breaks and drifts; the worker, the server
and the training process are killed on the way.
"""

import json

import pytest
from project import Project, write_tickets
from services import Services, edit_yaml

pytestmark = [pytest.mark.faults, pytest.mark.timeout(2400)]
INTERVAL = 12  # seconds between two scheduled runs
NEW = "data/source/new.jsonl"  # what came in since


class Day(Services):
    """The project of a day with its history."""

    def __init__(self, folder):
        super().__init__(Project(folder / "tickets"), folder)
        self.project.keep_only("pointer")
        edit_yaml(self.project.folder / "prefect.yaml", self.every_few_seconds)
        self.commit("One model, a short night")

    @staticmethod
    def every_few_seconds(deployments):
        retrain = next(one for one in deployments["deployments"] if one["name"] == "retrain")
        retrain["schedules"] = [{"interval": INTERVAL}]
        retrain["parameters"]["new_documents"] = NEW

    def commit(self, why):
        who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
        self.project.run("git", "add", "-A")
        self.project.run("git", *who, "commit", "-qm", why, check=False)

    def write_new(self, change):
        """A hundred new tickets, each text changed; whole at once, as a file that is moved in."""
        path = self.project.folder / NEW
        part = path.with_name(".new.part")
        write_tickets(part, 100, seed=2)
        part.write_text(change(part.read_text().replace('"ticket-', '"later-')))
        part.replace(path)

    def history(self):
        done = self.project.run("precis", "history", "--json", check=False)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def last(self):
        return self.history()[-1]

    def wait_for_more(self, name):
        before = self.states().count(name)
        self.wait(name, lambda: self.states().count(name) > before)

    def wait_for_training(self):
        self.wait("a training", lambda: any("stages.train" in line for _, line in self.stages()), 400)

    def cancel(self):
        """Cancel the flow run that is under way, as the button of the UI does."""
        (run,) = self.runs(state={"type": {"any_": ["RUNNING"]}})
        self.set_state(run["id"], "CANCELLING")


@pytest.fixture
def day(tmp_path):
    day = Day(tmp_path)
    day.start()
    yield day
    day.close()


def test_a_day_in_a_minute(day):
    project = day.project
    day.wait("the first champion", lambda: [record["event"] for record in day.history()] == ["promote"])

    # nothing new
    day.wait_for_more("Unchanged")

    # better; the worker is killed while it trains
    project.set_params({"train": {"max_epochs": 12}})
    day.commit("Train longer")
    day.wait_for_training()
    assert day.kill("prefect worker start")
    day.wait("a better champion", lambda: len(day.history()) == 2, 400)
    assert (day.last()["event"], day.last()["champion_after"]) == ("promote", 2)

    # worse; the server is killed while it trains
    project.set_params({"train": {"max_epochs": 1, "learning_rate": 0.0001}})
    day.commit("Train badly")
    day.wait_for_training()
    assert day.kill("closed_server.py")
    day.wait("a refusal", lambda: len(day.history()) == 3, 400)
    assert (day.last()["event"], day.last()["champion_after"]) == ("keep", 2)

    # the good parameters again: the same bytes are version 2, which is champion already
    project.set_params({"train": {"max_epochs": 12, "learning_rate": 0.01}})
    day.commit("Train well again")
    day.wait("the end of it", lambda: project.json("reports/registered.json")["version"] == 2, 400)
    day.wait_for_more("Unchanged")

    # corrupt: a file that is no JSON
    broken = project.folder / NEW
    broken.write_bytes(b"\x00\xff not json\n" * 400)
    day.wait_for_more("Failed")
    broken.unlink()

    # new tickets like those before are not worth a training
    day.wait_for_more("Unchanged")
    day.write_new(lambda text: text)
    day.wait_for_more("NothingNew")
    assert len(day.history()) == 3

    # drifted: people write about other things. A person cancels the training; that of the next run is killed
    day.write_new(
        lambda text: text.replace("lamp", "kettle").replace("came today", "never turned up anywhere")
    )
    day.wait_for_training()
    day.cancel()
    day.wait("the end of a cancelled training", lambda: not day.stages(), 15)
    day.wait("a training", lambda: day.kill("precis.stages.train"))
    day.wait("a decision on it", lambda: len(day.history()) == 4, 400)
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
