"""Coverage, tried after training on summaries that repeat themselves, is kept when it pays and undone when not."""

import json
import random

import pytest
from project import Project

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


def write_attendance(path, num_rows: int) -> None:
    """Lists of unknown names; the summary has the same names in any order.

    Which names were said already is nowhere in what the decoder reads: to it they are all the unknown word.
    Without coverage it says one of them twice.
    """
    generator = random.Random(3)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            names = [
                "".join(generator.choices("bdfgklmnprst", k=2) + generator.choices("aeiou", k=5))
                for _ in range(6)
            ]
            shuffled = generator.sample(names, k=len(names))
            row = {
                "id": str(number),
                "document": "present were " + " and ".join(names) + " at the meeting today",
                "summary": " ".join(shuffled),
            }
            file.write(json.dumps(row) + "\n")


def train(project: Project, **changes: float) -> dict[str, float]:
    """Train the pointer; give the metrics of its MLflow run."""
    from mlflow import MlflowClient

    project.set_params({"train": changes})
    project.repro("train@pointer")
    client = MlflowClient(f"sqlite:///{project.folder / 'mlflow.db'}")
    (run, *_) = client.search_runs(
        [client.get_experiment_by_name("precis").experiment_id], order_by=["attributes.start_time DESC"]
    )
    return dict(run.data.metrics)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("coverage") / "attendance", num_rows=1)
    (project.folder / "data" / "source" / "tickets.jsonl").unlink()
    write_attendance(project.folder / "data" / "source" / "attendance.jsonl", 1_500)
    project.set_params(
        {
            "vocabulary": {"target_size": 40, "source_size": 40},
            "encode": {"target_max_length": 10},
            "model": {"embedding_size": 24, "hidden_size": 32, "decoder_size": 64, "coverage": True},
            "train": {
                "max_epochs": 4,
                "learning_rate": 0.005,
                "coverage_epochs": 2,
                "coverage_learning_rate": 1.0,
                "coverage_min_repetition": 0.005,
            },
        }
    )
    return project


def test_it_halves_repetition_and_costs_next_to_no_likelihood(project):
    metrics = train(project)
    assert metrics["repetition_without_coverage"] > 0.02, "the corpus makes models repeat themselves"
    assert metrics["repetition_with_coverage"] <= metrics["repetition_without_coverage"] / 2
    assert metrics["coverage_loss_growth"] <= 0.02
    assert metrics["coverage_kept"] == 1
    options = project.json("models/pointer/model.json")["options"]
    assert options["coverage_on"] is True


def test_it_is_undone_when_the_loss_grows_too_much(project):
    # so heavy a coverage loss leaves no room for the likelihood
    project.set_params({"model": {"coverage_weight": 1_000.0}})
    metrics = train(project, coverage_max_loss=0.0)
    assert metrics["coverage_loss_growth"] > 0
    assert metrics["coverage_kept"] == 0
    assert project.json("models/pointer/model.json")["options"]["coverage_on"] is False
