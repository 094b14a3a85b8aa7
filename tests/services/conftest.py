import pytest
from real_stores import real_stores


@pytest.fixture(scope="session")
def stores():
    with real_stores() as started:
        yield started
