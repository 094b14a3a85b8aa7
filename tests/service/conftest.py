import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "serving"))
sys.path.insert(0, str(Path(__file__).parent))

from running import Running
from tiny_model import write_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A model folder."""
    return write_model(tmp_path_factory.mktemp("service") / "tiny", "pointer")


@pytest.fixture(scope="module")
def server(tiny):
    """`precis serve` in a process of its own, with that model."""
    with Running("--model", str(tiny)) as running:
        yield running
