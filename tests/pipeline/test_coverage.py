"""Coverage, tried after training on summaries that repeat themselves, is kept when it pays and undone when not."""

import json
import random
from pathlib import Path

import pytest
from project import Project

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


def write_attendance(path: Path, num_rows: int) -> None:
    """Who was there: the summary lists all names, in their order, and no vocabulary has any of them.

    Every name is the same unknown word to the decoder, so that it has to know from its own past alone how far it
    has come; without coverage it loses its place and says names twice.
    """
    generator = random.Random(3)
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            names = [
                "".join(generator.choice(letters) for letters in ("bdfgklmnprst", "aeiou") * 3)
                for _ in range(generator.randint(8, 16))
            ]
            remarks = [generator.choice(["said yes", "agreed", "told us so too"]) for _ in names]
            row = {
                "id": str(number),
                "document": " ".join(
                    f"{name} {remark}." for name, remark in zip(names, remarks, strict=True)
                ),
                "summary": " and ".join(names),
            }
            file.write(json.dumps(row) + "\n")


def train(project: Project) -> dict[str, float]:
    """Train the pointer; give the metrics of its MLflow run."""
    from mlflow import MlflowClient

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
    write_attendance(project.folder / "data" / "source" / "attendance.jsonl", 1_900)
    project.set_params(
        {
            "vocabulary": {"target_size": 30, "source_size": 30},
            "encode": {"target_max_length": 40},
            "model": {
                "embedding_size": 32,
                "hidden_size": 32,
                "decoder_size": 64,
                "dropout": 0.3,
                "coverage": True,
            },
            # as in params.yaml: the small settings of other tests learn too fast to repeat anything
            "train": {"max_epochs": 6, "learning_rate": 0.002, "warmup_updates": 100},
        }
    )
    return project


def test_it_halves_repetition_and_costs_next_to_no_likelihood(project):
    metrics = train(project)
    assert metrics["repetition_without_coverage"] > 0.02, "the corpus makes models repeat themselves"
    assert metrics["repetition_with_coverage"] <= metrics["repetition_without_coverage"] / 2
    assert metrics["coverage_loss_growth"] <= 0.02
    assert metrics["coverage_kept"] == 1
    assert project.json("models/pointer/model.json")["options"]["coverage_on"] is True


def test_it_is_undone_when_the_loss_grows_too_much(project):
    # so heavy a coverage loss leaves no room for the likelihood
    project.set_params({"model": {"coverage_weight": 1_000.0}, "train": {"coverage_max_loss": 0.0}})
    metrics = train(project)
    assert metrics["coverage_loss_growth"] > 0
    assert metrics["coverage_kept"] == 0
    assert project.json("models/pointer/model.json")["options"]["coverage_on"] is False
