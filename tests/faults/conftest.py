"""Lets the tests here share the small projects of tests/pipeline and the small repositories of tests/flows."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project with one model whose whole pipeline has run."""
    project = Project(tmp_path_factory.mktemp("finished") / "tickets", num_rows=200)
    project.keep_only("pointer")
    project.run("dvc", "repro", timeout=1500)  # a minute, when nobody else is at work
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of it to break."""
    return finished.copy_to(tmp_path / "tickets")


@pytest.fixture
def make_repository(tmp_path):
    """A function from the text of a dvc.yaml to the folder of a fresh repository with it."""

    def make(graph: str) -> Path:
        root = tmp_path / "repository"
        root.mkdir()
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=root, check=True)
        (root / "dvc.yaml").write_text(graph)
        return root

    return make
