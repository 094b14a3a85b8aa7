"""`make services` and `make services-stop`, from outside."""

import json
import os
import stat
import subprocess

import psutil
import pytest
from project import ROOT
from real_stores import real_stores

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


def processes(folder):
    """Those that work for the stores in a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if any(str(folder) in word for word in process.info["cmdline"] or []):
            found += [process, *process.children(recursive=True)]
    return {process.pid: process for process in found if process.status() != psutil.STATUS_ZOMBIE}


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def own():
    with real_stores() as started:
        yield started


def test_they_listen_on_loopback_alone(own):
    listening = [
        connection.laddr.ip
        for process in processes(own.folder).values()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 2 and set(listening) == {"127.0.0.1"}


def test_no_password_is_shown_and_no_file_with_one_can_be_read_by_others(own):
    password = (own.folder / "pgpass").read_text().strip().rpartition(":")[2]
    keys = [
        line.partition(" = ")[2] for line in (own.folder / "aws-credentials").read_text().splitlines()[1:]
    ]
    shown = own.do("start").stdout + own.do("env").stdout + (own.folder / "env").read_text()
    lines = "".join(" ".join(process.cmdline()) for process in processes(own.folder).values())
    for secret in (password, *keys):
        assert len(secret) >= 20 and secret not in shown + lines
        for path in own.folder.rglob("*"):
            in_data = "data" in path.relative_to(own.folder).parts
            if path.is_file() and not in_data and secret in path.read_text(errors="replace"):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_nobody_gets_in_without_the_password(own):
    import psycopg2

    address = own.environment["MLFLOW_TRACKING_URI"]
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(address, passfile=os.devnull)
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(address, password="guessed")  # pragma: allowlist secret
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.exceptions import ClientError

    own.bucket().put_object(Key="secret", Body=b"figures")
    stranger = boto3.client(
        "s3", endpoint_url=own.environment["AWS_ENDPOINT_URL_S3"], config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        stranger.get_object(Bucket="precis", Key="secret")


def test_a_stop_ends_exactly_what_was_started_and_keeps_what_is_in_it(own):
    own.bucket().put_object(Key="kept", Body=b"figures")
    before = own.environment
    started = set(processes(own.folder))
    assert len(started) >= 2
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        assert own.do("stop").stdout == "stopped: object store, PostgreSQL\n"
        assert not processes(own.folder) and not [pid for pid in started if is_alive(pid)]
        assert bystander.poll() is None
        assert own.do("stop").stdout == "stopped: nothing was running\n"
        # a number that another process has by now is not ours to end
        state = json.loads((own.folder / "services.json").read_text())
        state["object_store"] = {"pid": bystander.pid, "started": "Mon Jan  1 00:00:00 2024"}
        (own.folder / "services.json").write_text(json.dumps(state))
        assert own.do("stop").stdout == "stopped: nothing was running\n"
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    own.start()
    assert own.environment == before
    assert own.bucket().Object("kept").get()["Body"].read() == b"figures"


def test_a_machine_without_postgresql_is_told_what_to_install(tmp_path):
    # Debian's place and PATH are looked at; this Python sees neither
    script = (
        "import runpy, sys, pathlib, shutil\n"
        "pathlib.Path.glob = lambda *_, **__: iter(())\n"
        "shutil.which = lambda *_, **__: None\n"
        f"sys.argv = ['stores.py', 'start', '--folder', {str(tmp_path / 'stores')!r}]\n"
        "runpy.run_path('flows/stores.py', run_name='__main__')\n"
    )
    done = subprocess.run(["python", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "apt-get install postgresql" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "stores").exists()
