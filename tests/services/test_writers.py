"""Several writers at once, each in a folder of its own, on one PostgreSQL and one S3 store: a team's machines."""

import os
import random
import time

import pytest
from test_promotion_races import NUM_VERSIONS, answer, ask, in_process, look, prepare, race

from precis.training import tracking

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]


@pytest.fixture
def machine(stores, tmp_path, monkeypatch):
    """A function that goes to a new, empty folder with the environment of the stores."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in stores.environment.items():
        monkeypatch.setenv(name, value)

    def go(name):
        folder = tmp_path / name
        folder.mkdir()
        os.chdir(folder)

    monkeypatch.chdir(tmp_path)
    return go


def on(machine, name, work):
    """`work` on a machine of its own."""

    def there():
        machine(name)
        return work()

    return there


def test_of_two_machines_one_wins(machine):
    """No file is shared, so that only the database can hold one of them off."""
    ask(on(machine, "first", prepare))
    generator = random.Random(7)
    for round_ in range(3):
        champion = ask(on(machine, f"look{round_}", look))["champion"]
        rivals = generator.sample([one for one in range(1, NUM_VERSIONS + 1) if one != champion], 2)
        go = tracking.Path.cwd() / f"go{round_}"
        killed = "set_registered_model_alias" if round_ == 1 else None
        processes = [
            in_process(on(machine, f"m{round_}-{number}", race(number, champion, death, go)))
            for number, death in zip(rivals, (killed, None), strict=True)
        ]
        go.touch()
        ends = [answer(*process) for process in processes]
        won = [number for number, (_, has_won) in zip(rivals, ends, strict=True) if has_won]
        assert len(won) == 1, ends  # also where the other one died: the database frees its lock
        found = ask(on(machine, f"after{round_}", look))
        assert found["champion"] == found["alias"] == found["last"] == won[0]
        assert found["chain"] and found["open"] == 0
        assert found["numbers"] == sorted(set(found["numbers"]))


def write(number, go):
    def work():
        while not go.exists():
            time.sleep(0.001)
        client = tracking.configure()
        experiment = tracking.experiment_id(client, "written at once")
        run = client.create_run(experiment)
        for step in range(40):
            client.log_metric(run.info.run_id, "loss", number + step / 100, step=step)
        client.log_text(run.info.run_id, f"from {number}", "notes/about.txt")
        client.set_terminated(run.info.run_id)
        return run.info.run_id

    return work


def test_no_figure_and_no_file_of_four_writers_is_lost(machine, tmp_path):
    go = tmp_path / "go"
    processes = [in_process(on(machine, f"writer{number}", write(number, go))) for number in range(4)]
    go.touch()
    runs = [answer(*process) for process in processes]

    def read():
        client = tracking.configure()
        (experiment,) = {client.get_run(run).info.experiment_id for _, run in runs}
        return {
            "location": client.get_experiment(experiment).artifact_location,
            "losses": [[point.value for point in client.get_metric_history(run, "loss")] for _, run in runs],
            "texts": [tracking_text(run) for _, run in runs],
        }

    found = ask(on(machine, "reader", read))
    assert found["location"] == "s3://precis/mlflow/written%20at%20once"
    assert [sorted(losses) for losses in found["losses"]] == [
        [number + step / 100 for step in range(40)] for number in range(4)
    ]
    assert found["texts"] == [f"from {number}" for number in range(4)]


def tracking_text(run):
    from mlflow.artifacts import load_text

    return load_text(f"runs:/{run}/notes/about.txt")


def test_files_without_a_place_are_asked_for(machine, monkeypatch):
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT")

    def work():
        try:
            tracking.experiment_id(tracking.configure(), "nowhere")
        except tracking.PrecisError as error:
            return str(error)

    assert "s3://bucket/mlflow" in ask(on(machine, "unset", work))
