"""A person cancels a training in Prefect: it ends in time, and the next run goes on from its checkpoint."""

import re

import pytest
from project import Project

from services import Services

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.fixture
def services(tmp_path):
    project = Project(tmp_path / "tickets", num_rows=200)
    project.set_params({"train": {"max_epochs": 2_000, "patience": 2_000, "checkpoint_every_updates": 5}})
    project.repro("encode")
    services = Services(project, tmp_path)
    services.start()
    yield services
    services.close()


def test_a_cancelled_flow_run_leaves_no_training_and_the_next_one_resumes(services):
    deployment = services.wait("the deployment", lambda: services.deployment("reproduce/reproduce"))
    first = services.ask(f"deployments/{deployment}/create_flow_run")["id"]
    checkpoints = services.project.folder / ".work/train"
    services.wait("a checkpoint", lambda: list(checkpoints.rglob("*.ckpt")))
    assert services.stages()
    services.set_state(first, "CANCELLING")
    services.wait("the end of the training", lambda: not services.stages(), 15)
    services.wait("the word of it", lambda: state_of(services, first) == "CANCELLED", 60)
    assert list(checkpoints.rglob("*.ckpt")), "there is something to go on from"
    assert not (services.project.folder / "models/encoder_decoder").exists(), (
        "and nothing that looks finished"
    )

    second = services.ask(f"deployments/{deployment}/create_flow_run")["id"]
    (update,) = services.wait("the next run to go on", lambda: resumed_at(services, second))
    assert int(update) > 0
    services.set_state(second, "CANCELLING")
    services.wait("the end of the training", lambda: not services.stages(), 15)
    services.stop()


def state_of(services, run):
    return services.ask(f"flow_runs/{run}", method="GET")["state_type"]


def resumed_at(services, run):
    logs = services.ask("logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "limit": 200})
    return [match[1] for log in logs if (match := re.search(r"going on from update (\d+)", log["message"]))]
