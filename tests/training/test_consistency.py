"""Reading batches twice is for every phase of a training, and for its weights alone."""

import pytest
import small_training
import torch

from precis.batches.batch import make_batch
from precis.batches.encoded import EncodedCorpus
from precis.models.storage import load_model
from precis.training.flight_recorder import inputs_of

SETTINGS = {"max_epochs": 4, "dropout": 0.5}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def disagreement(trained, directory):
    """What 20 pairs of readings of the validation rows differ by, on average."""
    corpus = EncodedCorpus(directory / "encoded" / "validation.arrow")
    rows = list(range(len(corpus)))
    batch = make_batch(rows, [corpus[row] for row in rows], small_training.VOCABULARY_SIZE)
    model = load_model(trained.directory).train()
    torch.manual_seed(1)
    with torch.no_grad():
        losses = [model.training_loss(*inputs_of(batch), consistency_weight=1.0) for _ in range(20)]
    return float(torch.stack([one.consistency for one in losses]).mean())


@pytest.mark.parametrize("name", ["encoder_decoder", "attention", "pointer"])
def test_a_training_that_asks_for_it_ends_with_readings_that_agree(folder, name):
    trained = {
        weight: small_training.run(
            folder, work=f"work{weight}", model_name=name, consistency_weight=weight, **SETTINGS
        )
        for weight in (0.0, 10.0)
    }
    assert disagreement(trained[10.0], folder) < 0.5 * disagreement(trained[0.0], folder)


def test_it_is_for_the_sentences_of_the_documents_too(folder):
    """The best weights of pre-training are what the next phase begins with: they differ, and so does all after."""
    for weight in (0.0, 10.0):
        small_training.run(
            folder, work=f"work{weight}", pretraining=True, consistency_weight=weight, **SETTINGS
        )
    once, twice = (load_model(folder / f"work{weight}" / "documents" / "best") for weight in (0.0, 10.0))
    assert not torch.equal(*(model.state_dict()["gate.weight"] for model in (once, twice)))
