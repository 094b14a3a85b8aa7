import sys
from pathlib import Path

import pytest
from real_stores import real_stores

sys.path.insert(0, str(Path(__file__).parent.parent / "serving"))


@pytest.fixture(scope="session")
def stores():
    with real_stores() as started:
        yield started
