"""The doctor on a healthy project: everything is run once more, on a small corpus, under watch."""

import pytest

pytestmark = pytest.mark.timeout(600)


def test_a_healthy_project_has_nothing_wrong_and_dvc_yaml_tells_the_truth(finished_project):
    done = finished_project.run("precis", "doctor", "--trace", check=False)
    assert done.returncode == 0, done.stdout
    told = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["ok", "dvc.yaml, traced"] in told
    assert not [name for mark, name in told if mark == "BAD"]
    for stage in finished_project.first_run:
        assert stage in done.stderr, "each stage was run"
