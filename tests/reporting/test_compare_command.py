import json
import shutil
from pathlib import Path

import pytest

from precis.commands.compare import compare
from precis.errors import PrecisError


@pytest.fixture
def project(reports, monkeypatch):
    shutil.copy(Path(__file__).parents[2] / "params.yaml", reports.parent / "params.yaml")
    monkeypatch.chdir(reports.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reports.parent / 'mlflow.db'}")
    return reports.parent


def test_it_writes_a_page_and_tells_the_differences(project, capsys):
    output = project / "reports" / "compare.html"
    compare("attention", "reports/pointer", output=output, as_json=True, log=False)
    told = json.loads(capsys.readouterr().out)
    assert told["documents"] == 12
    means = [
        json.loads((project / "reports" / name / "metrics.json").read_text())["rouge1"]
        for name in ("attention", "pointer")
    ]
    assert told["difference_rouge1"] == pytest.approx(means[1] - means[0])
    assert "pointer compared with attention" in output.read_text()


def test_two_runs_of_mlflow_are_compared_and_the_page_is_with_the_second(project, capsys):
    from precis.training.tracking import configure, log_evaluation

    client = configure()
    experiment = client.create_experiment("e", artifact_location=str(project / "mlartifacts"))
    runs = []
    for name in ("attention", "pointer"):
        runs.append(client.create_run(experiment, tags={"precis.fingerprint": name}).info.run_id)
        model = project / "models" / name
        model.mkdir(parents=True)
        (model / "run.json").write_text(json.dumps({"fingerprint": name}))
        evaluation = project / "reports" / name
        metrics = json.loads((evaluation / "metrics.json").read_text())
        log_evaluation(model, metrics, evaluation)
    shutil.rmtree(project / "reports")  # MLflow has all that is needed
    compare(*runs, output=project / "page.html", as_json=True, log=True)
    told = json.loads(capsys.readouterr().out)
    assert told["signature"] == "rouge-score:x|y"
    first, second = (client.get_run(run).data for run in runs)
    assert second.metrics["difference_rouge1"] == pytest.approx(
        second.metrics["test_rouge1"] - first.metrics["test_rouge1"]
    )
    assert second.tags["precis.rouge"] == "rouge-score:x|y"
    assert second.tags["precis.compared_with"] == runs[0]
    (logged,) = client.list_artifacts(runs[1], "comparison")
    page = Path(client.download_artifacts(runs[1], logged.path)).read_text()
    assert f"run {runs[1][:8]} compared with run {runs[0][:8]}" in page
    assert "doc-3" in page and "rouge-score:x|y" in page
    assert not client.list_artifacts(runs[0], "comparison")


def test_scores_of_different_conventions_are_not_compared(project):
    (project / "reports/pointer/plots/signature.txt").write_text("rouge-score:x|z\n")
    with pytest.raises(PrecisError, match=r"conventions cannot be compared:\n.*x\|y\n.*x\|z"):
        compare("attention", "pointer", output=project / "page.html", as_json=False, log=False)
    assert not (project / "page.html").exists()


def test_a_baseline_can_be_compared_with(project, capsys):
    compare("lead_1", "pointer", output=project / "page.html", as_json=False, log=False)
    assert "rouge1" in capsys.readouterr().out


def test_a_name_that_nothing_has_is_told(project):
    with pytest.raises(PrecisError, match=r"'nix' is no folder with metrics.json, no name in reports/"):
        compare("attention", "nix", output=project / "page.html", as_json=False, log=False)
