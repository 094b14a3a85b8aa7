"""Server, worker and schedule are stopped for a while: one run catches up, and the schedule goes on."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
INTERVAL, AWAY = 10, 60  # seconds
pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.fixture
def served(repository, tmp_path, unused_port):
    """A function that starts the services of a small repository; they are gone after the test."""
    shutil.copytree(ROOT / "flows", repository / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    yaml = YAML()
    deployments = yaml.load((ROOT / "prefect.yaml").read_text())
    reproduce = next(one for one in deployments["deployments"] if one["name"] == "reproduce")
    retrain = next(one for one in deployments["deployments"] if one["name"] == "retrain")
    reproduce |= {"schedules": [{"interval": INTERVAL}], "concurrency_limit": retrain["concurrency_limit"]}
    deployments["deployments"] = [reproduce]
    yaml.dump(deployments, repository / "prefect.yaml")
    started, log = [], tmp_path / "services.log"

    def start():
        process = subprocess.Popen(
            [sys.executable, "flows/serve.py", "--port", str(unused_port)],
            cwd=repository,
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": ""},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


@pytest.fixture
def ask(unused_port):
    def ask(**of):
        request = urllib.request.Request(
            f"http://127.0.0.1:{unused_port}/api/flow_runs/filter",
            data=json.dumps({"flow_runs": of, "limit": 200}).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            return json.load(urllib.request.urlopen(request, timeout=10))
        except OSError:
            return []

    return ask


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


def completed(ask, after):
    done = ask(state={"type": {"any_": ["COMPLETED"]}}, expected_start_time={"after_": after.isoformat()})
    return [run for run in done if run["start_time"]]


def test_one_run_catches_up_for_all_that_were_missed(served, ask):
    begin = datetime.now(tz=UTC)
    services = served()
    wait_for(lambda: completed(ask, begin))
    services.terminate()
    services.wait(60)
    away = datetime.now(tz=UTC) + timedelta(seconds=INTERVAL)  # what was due before may have been under way
    time.sleep(AWAY)
    back = datetime.now(tz=UTC)
    served()
    wait_for(lambda: completed(ask, back), 150)
    missed = ask(expected_start_time={"after_": away.isoformat(), "before_": back.isoformat()})
    assert len(missed) >= (AWAY - INTERVAL) // INTERVAL - 2
    ran = [run for run in missed if run["state_type"] != "CANCELLED"]
    assert len(ran) <= 1, [run["state_name"] for run in missed]
    # and no slot is there twice: the deployment was made anew, its schedule is the same
    slots = [run["expected_start_time"] for run in ask(expected_start_time={"after_": begin.isoformat()})]
    assert len(slots) == len(set(slots))
