"""`precis demo` as a process, with two small untrained models."""

import signal
import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "serving")]

from demo_process import start, stop
from tiny_model import write_model


@pytest.fixture(scope="session")
def address(tmp_path_factory, chromium):
    """Of a demo page with the models champion and challenger."""
    folder = tmp_path_factory.mktemp("demo")
    models = [
        f"--model={name}={write_model(folder / name, 'pointer', seed)}"
        for name, seed in (("champion", 1), ("challenger", 2))
    ]
    process, found = start(*models, cwd=folder)
    yield found
    assert stop(process) == 128 + signal.SIGINT
