import pytest
from project import Project


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory) -> Project:
    """A project whose whole pipeline has run once. Tests that change it use `copy_to`."""
    project = Project(tmp_path_factory.mktemp("project") / "tickets")
    project.first_run = project.repro()
    return project
