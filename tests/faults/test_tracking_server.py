"""A real MLflow server is killed before, during and after a training, and so is the training: no figure is lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter

import pytest
import small_training
from mlflow import MlflowClient

from precis.training.parcels import read_points

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
WORK = ".work/train/pointer/0"
AWAY_SECONDS = 60


class Server:
    """An MLflow server that can be killed and started again; its database stays."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--workers", "1"),
                    *(
                        "--port",
                        str(self.port),
                        "--backend-store-uri",
                        f"sqlite:///{self.folder / 'server.db'}",
                    ),
                    *("--artifacts-destination", str(self.folder / "artifacts")),
                ],
                cwd=self.folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + 300
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < end, (
                self.folder / "server.log"
            ).read_text()
            time.sleep(0.5)

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                return True
        except OSError:
            return False

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    yield server
    if server.process.poll() is None:
        server.kill()


def start(folder, server, **settings):
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server.uri, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, small_training.__file__, str(folder), json.dumps({"work": WORK, **settings})],
        env=environment,
        stderr=(folder / "log.txt").open("a"),
    )


def written(folder):
    points, _ = read_points(folder / WORK / "metrics.jsonl")
    return {(name, step): value for name, value, _, step in points}


def recorded(server):
    client = MlflowClient(server.uri)
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    history = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    return run.info.status, [(point.key, point.step, point.value) for points in history for point in points]


def assert_all_arrived_once(server, expected):
    status, points = recorded(server)
    assert status == "FINISHED"
    assert {(name, step): value for name, step, value in points} == expected
    assert max(Counter((name, step) for name, step, _ in points).values()) == 1


def wait_for_points(folder, number, process):
    end = time.monotonic() + 600
    while len(written(folder)) < number:
        assert process.poll() is None and time.monotonic() < end, (folder / "log.txt").read_text()
        time.sleep(0.05)


def test_a_minute_without_a_server_in_the_middle_of_a_training_loses_no_figure(tmp_path, server):
    """A point after every update; the training ends by the clock, so that it outlasts the minute on any machine."""
    process = start(
        tmp_path, server, max_epochs=100_000, patience=10**6, max_minutes=2.5, log_every_updates=1,
        validations_per_epoch=1, checkpoint_every_updates=500,
    )  # fmt: skip
    wait_for_points(tmp_path, 50, process)
    server.kill()
    before = len(written(tmp_path))
    time.sleep(AWAY_SECONDS)
    meanwhile = len(written(tmp_path)) - before
    assert process.poll() is None
    server.start()
    assert process.wait(900) == 0, (tmp_path / "log.txt").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert "MLflow does not answer; training goes on" in log and "MLflow answers again" in log
    expected = written(tmp_path)
    assert meanwhile > 100 and len(expected) > 1_000
    assert_all_arrived_once(server, expected)
    print(f"{len(expected)} points, {meanwhile} of them found while the server was away")


def test_a_server_that_is_away_at_both_ends_and_a_training_that_is_killed_lose_no_figure(tmp_path, server):
    server.kill()
    process = start(tmp_path, server, max_epochs=20)
    wait_for_points(tmp_path, 60, process)
    process.kill()
    process.wait()
    server.start()
    process = start(tmp_path, server, max_epochs=20)
    wait_for_points(tmp_path, 90, process)
    server.kill()
    assert process.wait(600) == 0, (tmp_path / "log.txt").read_text()
    expected = written(tmp_path)
    server.start()
    sent = subprocess.run(
        [sys.executable, "-m", "precis.training.parcels"],
        cwd=tmp_path,
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri},
    )
    assert sent.returncode == 0
    assert_all_arrived_once(server, expected)
    assert not (tmp_path / WORK).exists()
