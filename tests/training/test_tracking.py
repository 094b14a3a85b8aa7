"""What MLflow does not take while a training runs waits in a folder, and arrives later, once."""

import json
import socket

import pytest
import small_training
from mlflow import MlflowClient

from precis.training.parcels import Parcel, deliver, deliver_within, read_points, waiting
from precis.training.tracking import log_evaluation

WORK = ".work/train/pointer/0"
SHORT = {"work": WORK, "max_epochs": 2}


@pytest.fixture
def no_store(monkeypatch):
    """The address of a store that does not answer."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def store(folder, monkeypatch) -> MlflowClient:
    """The store is there again."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


def recorded(client):
    """The one run, and all its points as they are stored: a second point of a step would show."""
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    history = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
    return run, sorted((point.key, point.step, point.value) for points in history for point in points)


def written(folder):
    return sorted(
        (name, step, value) for name, value, _, step in read_points(folder / WORK / "metrics.jsonl")[0]
    )


def test_a_store_that_is_away_all_the_time_gets_everything_later_and_once(
    tmp_path, monkeypatch, no_store, caplog
):
    small_training.run(tmp_path, **SHORT)
    assert "MLflow does not answer; training goes on and metrics wait" in caplog.text
    assert "are sent by the next run" in caplog.text
    expected = written(tmp_path)
    assert len(expected) == 2 * (24 // 4) + 2 * 4, (
        "loss and rate at every fourth update, two of each validation"
    )

    # its scores, too, are for a run that the store does not know yet
    model, scores = tmp_path / "models/pointer", tmp_path / "reports/pointer"
    model.mkdir(parents=True)
    (model / "run.json").write_text(json.dumps({"fingerprint": "0" * 64}))
    scores.mkdir(parents=True)
    (scores / "metrics.json").write_text("{}")
    log_evaluation(model, {"rouge1": 30.0}, scores)
    assert len(waiting(tmp_path)) == 2

    client = store(tmp_path, monkeypatch)
    assert deliver_within(tmp_path, 60)
    run, points = recorded(client)
    assert points == sorted([*expected, ("test_rouge1", 0, 30.0)])
    assert run.info.status == "FINISHED"
    assert [file.path for file in client.list_artifacts(run.info.run_id, "evaluation")] == [
        "evaluation/metrics.json"
    ]
    assert waiting(tmp_path) == []
    assert not (tmp_path / WORK).exists(), "what arrived is not kept"


def test_a_training_that_was_killed_is_called_so_and_goes_on_as_the_same_run(tmp_path, monkeypatch, no_store):
    with pytest.raises(ZeroDivisionError), monkeypatch.context() as patch:
        patch.setattr("precis.training.record.RunRecord.end", lambda *_: None)  # nobody is there to say it
        patch.setattr("precis.training.progress.SampleSummaries.on_validation_end", die)
        small_training.run(tmp_path, **SHORT)
    client = store(tmp_path, monkeypatch)
    deliver(tmp_path)
    run, points = recorded(client)
    assert run.info.status == "KILLED"
    assert points == written(tmp_path) and points
    assert waiting(tmp_path) == [], "there is nothing more to say"
    assert list((tmp_path / WORK).glob("*.ckpt")), "but something to go on from"
    small_training.run(tmp_path, **SHORT)
    again, points = recorded(client)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "FINISHED")
    assert len(points) == len({(name, step) for name, step, _ in points}) == 2 * (24 // 4) + 2 * 4


def die(*_):
    raise ZeroDivisionError


def test_an_answer_that_got_lost_makes_no_second_point(tmp_path, monkeypatch):
    """The store took the points and could not say so; the sender asks what arrived before it sends again."""
    client = store(tmp_path, monkeypatch)
    parcel = Parcel(tmp_path)
    run = {"experiment": "test", "name": "n", "params": {}, "tags": {}, "datasets": []}
    parcel.write_head("1" * 64, run)
    parcel.add_points("metrics.jsonl", {"loss": 2.0}, 1)
    log_batch = MlflowClient.log_batch

    def take_and_break(self, *arguments, **options):
        log_batch(self, *arguments, **options)
        raise ConnectionError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", take_and_break)
        with pytest.raises(ConnectionError):
            parcel.send(client)
    # the update was done again after a kill: another time, the same value
    parcel.add_points("metrics.jsonl", {"loss": 2.0}, 1)
    parcel.add_points("metrics.jsonl", {"loss": 1.5}, 2)
    parcel.end("FINISHED")
    assert parcel.send(client)
    run, points = recorded(client)
    assert points == [("loss", 1, 2.0), ("loss", 2, 1.5)]
    assert run.info.status == "FINISHED"


def test_a_line_that_a_kill_cut_short_spoils_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    Parcel(tmp_path).add_points(path.name, {"a": 1.0}, 1)
    with path.open("a") as file:
        file.write('["a", 2.')
    assert [point[3] for point in read_points(path)[0]] == [1]
    Parcel(tmp_path).add_points(path.name, {"a": 3.0}, 3)
    points, end = read_points(path)
    assert [point[3] for point in points] == [1, 3]
    assert end == path.stat().st_size
    assert read_points(path, end) == ([], end)


def test_a_store_that_hangs_holds_nobody_up(tmp_path, monkeypatch, caplog):
    """It takes connections and never answers: waiting for one answer would outlast the test."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1000")
        monkeypatch.setattr("precis.training.record._FIRST_WAIT", 0.5)
        monkeypatch.setattr("precis.training.record._LAST_WAIT", {"FINISHED": 0.5})
        small_training.run(tmp_path, **SHORT)
        assert "it is slow" in caplog.text
        assert len(written(tmp_path)) == 2 * (24 // 4) + 2 * 4
