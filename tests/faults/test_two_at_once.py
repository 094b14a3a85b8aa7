"""Two runs of the pipeline, and processes at an MLflow database that is not there yet."""

import os
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

import pipeline

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

GRAPH = (
    "stages:\n  train:\n    cmd: touch began && sleep 15 && echo done > model.txt\n    outs: [model.txt]\n"
)
WRITER = """
import sys, time
from mlflow.entities import Metric
from precis.training.tracking import configure, experiment_id

client = configure()
run = client.create_run(experiment_id(client, "precis"))
for step in range(100):
    client.log_batch(run.info.run_id, metrics=[Metric("loss", 1.0 / (step + 1), int(time.time() * 1000), step)])
"""


def test_of_two_runs_of_the_pipeline_one_works_and_one_says_so(make_repository):
    root = make_repository(GRAPH)
    first = subprocess.Popen([sys.executable, pipeline.__file__], cwd=root)
    while not (root / "began").exists():
        assert first.poll() is None
        time.sleep(0.05)
    begin = time.monotonic()
    second = subprocess.run([sys.executable, pipeline.__file__], cwd=root, capture_output=True, text=True)
    assert time.monotonic() - begin < 10
    assert (second.returncode, second.stdout) == (pipeline.BUSY_EXIT, "")
    assert f"started by process {first.pid}" in second.stderr
    assert first.wait(60) == 0
    assert (root / "model.txt").read_text() == "done\n"


def test_four_processes_that_are_first_at_a_database_lose_nothing(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER], cwd=tmp_path, env={**os.environ, "MLFLOW_TRACKING_URI": uri}
        )
        for _ in range(4)
    ]
    assert [process.wait(600) for process in processes] == [0] * 4
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("precis").experiment_id])
    counts = [len(client.get_metric_history(run.info.run_id, "loss")) for run in runs]
    assert counts == [100] * 4


def test_a_kill_while_the_database_is_made_spoils_nothing(tmp_path):
    """MLflow makes it by a hundred migrations, in place."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    ask = "from precis.training.tracking import configure; configure().search_experiments()"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", ask], cwd=tmp_path, env=environment)
        while process.poll() is None and not list(tmp_path.glob(".mlflow.db.*.part")):
            time.sleep(0.01)
        time.sleep(0.1)
        process.kill()
        process.wait()
    assert subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, env=environment).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
