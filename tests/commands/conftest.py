import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from tiny_model import write_model

from precis.manifest import write_manifest

PRECIS = str(Path(sys.executable).with_name("precis"))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "TERM": "xterm"}
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    return environment


@pytest.fixture(scope="session")
def start(environment):
    """A function that starts `precis ARGUMENTS`."""

    def start(*arguments: str, **options) -> subprocess.Popen:
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment} | options
        return subprocess.Popen([PRECIS, *arguments], **options)

    return start


@pytest.fixture(scope="session")
def run(start):
    """A function that runs `precis ARGUMENTS`; gives exit code, output and errors."""

    def run(*arguments: str, given: bytes | None = None, **options) -> tuple[int, str, str]:
        stdin = subprocess.DEVNULL if given is None else subprocess.PIPE
        process = start(*arguments, stdin=stdin, **options)
        try:
            out, err = process.communicate(given)
        finally:  # pytest's time-out comes as an exception
            process.kill()
        assert b"Traceback" not in err, err.decode()
        return process.returncode, out.decode(), err.decode()

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    directory = write_model(tmp_path_factory.mktemp("model"), "pointer")
    write_manifest(directory)
    return str(directory)
