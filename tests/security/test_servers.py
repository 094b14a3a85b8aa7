"""MLflow and Prefect as the project starts them, with their log-in on, and what a stranger tries with them."""

import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLOWS = Path(__file__).parents[2] / "flows"
PASSWORD = "a-long-password-31"
SECRET = "canary-of-a-file-outside"
pytestmark = pytest.mark.timeout(300)


class Server:
    def __init__(self, script: str, folder: Path, environment: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / f"{script}.log"
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_"))
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(FLOWS / script), "--port", str(self.port)],
                cwd=folder,
                env={**inherited, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, path: str, seconds: float = 200) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if self.ask("GET", path)[0] == 200:
                    return
            except OSError:
                pass
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()[-2000:]
            time.sleep(0.5)

    def ask(self, method, path, body=None, *, user=None, **headers):
        """Status and text of an answer; the path is sent exactly as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {
            "Content-Type": "application/json",
            **{key.replace("_", "-"): value for key, value in headers.items()},
        }
        if user:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
        connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, sent)
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")

    def stop(self) -> None:
        os.killpg(self.process.pid, 15)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Both of them, started at the same time."""
    folder = tmp_path_factory.mktemp("servers")
    (folder / "secret.txt").write_text(SECRET)
    started = {
        "mlflow": Server("ui.py", folder, {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD}),
        "prefect": Server(
            "closed_server.py",
            folder,
            {"PREFECT_SERVER_API_AUTH_STRING": f"admin:{PASSWORD}", "PREFECT_HOME": str(folder / "prefect")},
        ),
    }
    try:
        started["mlflow"].wait("/health")
        started["prefect"].wait("/api/health")
        yield started
    finally:
        for server in started.values():
            server.stop()


NAMED = {"name": "planted"}
WRITES = [
    ("mlflow", "POST", "/api/2.0/mlflow/experiments/create", NAMED),
    ("mlflow", "POST", "/ajax-api/2.0/mlflow/experiments/create", NAMED),
    ("mlflow", "POST", "/api/2.0/mlflow/experiments/create/", NAMED),
    ("mlflow", "POST", "//api/2.0/mlflow/experiments/create", NAMED),
    ("mlflow", "POST", "/api/2.0/mlflow/experiments/create?x=/health", NAMED),
    ("mlflow", "POST", "/health/../api/2.0/mlflow/experiments/create", NAMED),
    ("mlflow", "POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"}),
    ("mlflow", "POST", "/api/2.0/mlflow/runs/log-metric", {"run_id": "0" * 32, "key": "a", "value": 1}),
    ("mlflow", "POST", "/api/2.0/mlflow/registered-models/create", NAMED),
    ("mlflow", "POST", "/api/2.0/mlflow/model-versions/create", {**NAMED, "source": "/etc"}),
    ("mlflow", "POST", "/api/2.0/mlflow/registered-models/alias", {**NAMED, "alias": "champion", "version": "1"}),
    ("mlflow", "POST", "/api/2.0/mlflow/users/create", {"username": "planted", "password": PASSWORD}),
    ("mlflow", "PATCH", "/api/2.0/mlflow/users/update-admin", {"username": "planted", "is_admin": True}),
    ("mlflow", "PUT", "/api/2.0/mlflow-artifacts/artifacts/planted.txt", "planted"),
    ("mlflow", "POST", "/graphql", {"query": "mutation {__typename}"}),
    ("mlflow", "POST", "/ajax-api/3.0/jobs/", {"function_fullname": "os.system", "params": {}}),
    ("prefect", "POST", "/api/flows/", NAMED),
    ("prefect", "POST", "/api/flows/?x=/health", NAMED),
    ("prefect", "POST", "/api/flows/health", NAMED),
    ("prefect", "POST", "/api/health/../flows/", NAMED),
    ("prefect", "POST", "/api/variables/", {**NAMED, "value": "x"}),
    ("prefect", "POST", "/api/work_pools/", {**NAMED, "type": "process"}),
    ("prefect", "POST", "/api/deployments/", {**NAMED, "flow_id": "0" * 32}),
    ("prefect", "POST", "/api/block_documents/", NAMED),
    ("prefect", "POST", "/api/events", "[]"),
    ("prefect", "POST", "/api/admin/database/clear", {"confirm": True}),
    ("prefect", "DELETE", "/api/work_pools/default", None),
]  # fmt: skip


@pytest.mark.parametrize(("server", "method", "path", "body"), WRITES, ids=[f"{w[0]} {w[2]}" for w in WRITES])
def test_nothing_is_written_without_logging_in(servers, server, method, path, body):
    status, text = servers[server].ask(method, path, body)
    assert 300 <= status < 500, text


def test_nothing_was_written_by_them(servers):
    mlflow, prefect = servers["mlflow"], servers["prefect"]
    planted = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=planted"
    assert mlflow.ask("GET", planted, user="admin")[0] == 404
    models = mlflow.ask("GET", "/api/2.0/mlflow/registered-models/search", user="admin")
    assert models[0] == 200 and "planted" not in models[1]
    for what in ("flows", "variables", "work_pools"):
        answer = prefect.ask("POST", f"/api/{what}/filter", {}, user="admin")
        assert answer[0] == 200 and "planted" not in answer[1]


READS = [
    "/../../../../../../etc/passwd",
    "/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/%2e%2e/%2e%2e/%2e%2e/secret.txt",
    "/..%252f..%252fsecret.txt",
    "/static-files/../../../../../../etc/passwd",
    "/static-files/..%5c..%5csecret.txt",
    "/api/2.0/mlflow-artifacts/artifacts/..%2f..%2fsecret.txt",
    "/api/2.0/mlflow-artifacts/artifacts/%2fetc%2fpasswd",
    "/api/2.0/mlflow-artifacts/artifacts?path=../../",
    "/get-artifact?run_uuid=0&path=../../secret.txt",
    "/model-versions/get-artifact?name=planted&version=1&path=../../secret.txt",
    "/assets/..%2f..%2f..%2fetc%2fpasswd",
    "/api/ui/../../../../etc/passwd",
]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("server", ["mlflow", "prefect"])
def test_no_file_outside_is_read_by_somebody_who_has_logged_in(servers, server, path):
    _, text = servers[server].ask("GET", path, user="admin")
    assert "root:" not in text and SECRET not in text


@pytest.mark.parametrize("server", ["mlflow", "prefect"])
@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "evil.example:80"]
)
def test_a_name_that_is_not_of_this_machine_is_refused(servers, server, host):
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0" if server == "mlflow" else "/api/admin/version"
    assert servers[server].ask("GET", path, user="admin", Host=host)[0] == 403


# MLflow takes every page of this machine for its own, whatever the port
@pytest.mark.parametrize("server", ["mlflow", "prefect"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil.example"])
def test_a_page_of_another_origin_writes_nothing(servers, server, origin):
    path = "/api/2.0/mlflow/experiments/create" if server == "mlflow" else "/api/flows/"
    status, text = servers[server].ask("POST", path, NAMED, user="admin", Origin=origin)
    assert status == 403, text
    status, text = servers[server].ask(
        "OPTIONS",
        path,
        Origin=origin,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="authorization",
    )
    assert status >= 400


def test_whoever_logs_in_is_served(servers):
    made = servers["mlflow"].ask(
        "POST", "/api/2.0/mlflow/experiments/create", {"name": "wanted"}, user="admin"
    )
    assert made[0] == 200
    assert servers["prefect"].ask("POST", "/api/flows/", {"name": "wanted"}, user="admin")[0] == 201
    assert (
        servers["mlflow"].ask("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", user="nobody")[0]
        == 401
    )


def test_a_version_of_a_folder_of_the_server_is_refused(servers):
    mlflow = servers["mlflow"]
    assert (
        mlflow.ask("POST", "/api/2.0/mlflow/registered-models/create", {"name": "m"}, user="admin")[0] == 200
    )
    for source in ("/etc", "file:///etc", "../..", "models:/../../etc", "https://evil.example/model"):
        status, text = mlflow.ask(
            "POST", "/api/2.0/mlflow/model-versions/create", {"name": "m", "source": source}, user="admin"
        )
        assert status == 400, (source, text)


def test_both_listen_on_loopback_alone(servers):
    import psutil

    for server in servers.values():
        family = [
            server.process.pid,
            *(child.pid for child in psutil.Process(server.process.pid).children(recursive=True)),
        ]
        addresses = {
            connection.laddr.ip
            for pid in family
            for connection in psutil.Process(pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}
