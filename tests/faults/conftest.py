"""Lets the tests here share the small projects of tests/pipeline and the small repositories of tests/flows."""

import shutil
import sys
from pathlib import Path

import pytest

for folder in ("pipeline", "training"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
sys.path.insert(0, str(Path(__file__).parents[2] / "flows"))

from project import Project  # noqa: E402


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project with one model whose whole pipeline has run."""
    project = Project(tmp_path_factory.mktemp("finished") / "tickets", num_rows=200)
    project.keep_only("pointer")
    project.repro()
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of it to break."""
    shutil.copytree(finished.folder, tmp_path / "tickets", symlinks=True)
    copy = object.__new__(Project)
    copy.folder = tmp_path / "tickets"
    return copy
