"""The whole pipeline on a small corpus, as a user runs it."""

import hashlib
import json
import subprocess
import sys

import pytest
from project import Project

MODELS = ["encoder_decoder", "attention", "pointer"]
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def finished_project(finished_project, tmp_path_factory) -> Project:
    """A copy: these tests change parameters and train again, and other files of tests begin with the first run."""
    return finished_project.copy_to(tmp_path_factory.mktemp("pipeline") / "tickets")


def digests(project, *paths: str) -> dict[str, str]:
    return {path: hashlib.sha256((project.folder / path).read_bytes()).hexdigest() for path in paths}


def test_the_first_run_runs_every_stage_once(finished_project):
    expected = finished_project.run("dvc", "stage", "list", "--name-only").stdout.split()
    assert sorted(finished_project.first_run) == sorted(expected)


def test_the_comparison_has_baselines_and_models_with_intervals(finished_project):
    table = (finished_project.folder / "reports" / "comparison.md").read_text()
    rows = [line for line in table.splitlines() if "[" in line]
    for name in ("lead-1", *MODELS):
        assert any(row.startswith(f"| {name} |") for row in rows), "a row with intervals"
    assert "rouge-score:" in table, "the signature"


def test_only_the_pointer_writes_words_outside_its_vocabulary(finished_project):
    recall = {name: finished_project.json(f"reports/{name}/metrics.json")["oov_recall"] for name in MODELS}
    assert recall["encoder_decoder"] == recall["attention"] == 0
    assert recall["pointer"] > 0


def test_when_nothing_changed_nothing_runs_and_nothing_is_left_to_commit_but_the_lock(finished_project):
    assert finished_project.repro() == []
    assert "up to date" in finished_project.run("dvc", "status").stdout
    assert finished_project.run("git", "status", "--porcelain").stdout.split() == ["??", "dvc.lock"]


def test_mlflow_has_one_finished_run_for_each_model_in_one_group(finished_project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished_project.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("precis")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["precis.model"] for run in runs) == sorted(MODELS)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["precis.pipeline"] for run in runs}) == 1
    for run in runs:
        metrics = finished_project.json(f"reports/{run.data.tags['precis.model']}/metrics.json")
        assert run.data.metrics["test_rouge1"] == pytest.approx(metrics["rouge1"])
        assert run.data.params["train.batch_size"] == "16"
        assert len(client.get_metric_history(run.info.run_id, "validation_loss")) == 2
        assert {input.dataset.name for input in run.inputs.dataset_inputs} == {
            "train.arrow",
            "validation.arrow",
        }
        commit = finished_project.run("git", "rev-parse", "HEAD").stdout.strip()
        assert run.data.tags["mlflow.source.git.commit"] == commit
        names = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
        assert {"samples", "model", "evaluation", "report", "params.yaml"} <= names


def test_the_registered_model_summarizes_in_a_fresh_process_elsewhere(finished_project, tmp_path):
    registered = finished_project.json("reports/registered.json")
    scores = {name: finished_project.json(f"reports/{name}/metrics.json")["rouge1"] for name in MODELS}
    assert registered["model"] == max(scores, key=scores.__getitem__)
    code = (
        "import json, mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/precis@challenger')\n"
        "print(json.dumps(model.predict(['Hello, this is Zorblax. The lamp is broken.'])))\n"
    )
    environment = {
        **finished_project.environment,
        "MLFLOW_TRACKING_URI": f"sqlite:///{finished_project.folder / 'mlflow.db'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (summary,) = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(summary, str)
    assert summary


def test_dvc_shows_metrics_and_plots(finished_project):
    shown = finished_project.run("dvc", "metrics", "show").stdout
    for name in MODELS:
        assert f"reports/{name}/metrics.json" in shown
    finished_project.run("dvc", "plots", "show")
    page = (finished_project.folder / "dvc_plots" / "index.html").read_text()
    assert "validation_loss" in page


def test_a_decoding_parameter_runs_evaluation_and_what_follows_it(finished_project):
    finished_project.set_params({"decoding": {"beam_size": 2}})
    ran = finished_project.repro()
    assert sorted(ran) == sorted([*(f"evaluate@{name}" for name in MODELS), "report", "register"])


def test_the_same_seed_gives_the_same_bytes(finished_project):
    outputs = [
        "models/pointer/model.safetensors",
        "models/pointer/history.csv",
        "reports/pointer/metrics.json",
    ]
    before = digests(finished_project, *outputs)
    finished_project.run("dvc", "repro", "--single-item", "--force", "train@pointer")
    finished_project.run("dvc", "repro", "--single-item", "--force", "evaluate@pointer")
    assert digests(finished_project, *outputs) == before
    assert finished_project.repro() == [], "equal outputs leave nothing to do"


def test_dvc_exp_run_takes_a_parameter_from_the_command_line(finished_project):
    done = finished_project.run("dvc", "exp", "run", "-S", "decoding.beam_size=3", "evaluate@encoder_decoder")
    assert "Running stage 'evaluate@encoder_decoder'" in done.stdout
    assert "Running stage 'train@" not in done.stdout
