"""A tiny trained-looking model directory, and an MLflow store of its own for each test."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from precis.models.build import build_model, options_of
from precis.models.storage import save_model
from precis.text.vocabulary import Vocabulary
from precis.training import tracking

WORDS = "the meeting moved to friday because room seven floods and nobody has boots"
DECODING = {
    "beam_size": 2,
    "min_length": 1,
    "max_length": 5,
    "length_penalty": "average",
    "length_alpha": 1.0,
    "coverage_penalty": "none",
    "coverage_beta": 0.0,
    "block_ngrams": 0,
    "block_exceptions": [],
    "banned_words": [],
    "frequent_words": 10,
}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """Making MLflow's tables takes seconds: done once, copied for each test."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        tracking.configure()
    return folder / "mlflow.db"


@pytest.fixture
def client(tmp_path, monkeypatch, empty_database):
    """MLflow with its database in `tmp_path`, which is the working directory."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tracking.configure()


@pytest.fixture
def make_model(tmp_path):
    """A function that writes models/NAME and reports/NAME/metrics.json with random weights of a seed."""

    def make(
        name: str = "pointer", *, seed: int = 1, rouge1: float = 30.0, generation: str = "mixture"
    ) -> Path:
        directory = tmp_path / "models" / name
        directory.mkdir(parents=True, exist_ok=True)
        vocabulary = Vocabulary.build(Counter(WORDS.split()), size=20, min_count=1)
        vocabulary.save(directory / "shared.txt")
        torch.manual_seed(seed)
        options = {
            "cell": "gru", "layers": 1, "bidirectional": True, "embedding_size": 6, "hidden_size": 5,
            "decoder_size": 7, "tie_embeddings": True, "readout": "tanh", "dropout": 0.0, "word_dropout": 0.0,
            "label_smoothing": 0.0, "attention": "general", "input_feeding": False, "attend_with_cell": False,
            "intra_attention": False, "coverage": False, "coverage_weight": 0.0, "generation": generation,
            "pointing_weight": 0.0,
        }  # fmt: skip
        size = len(vocabulary)
        known = {key: value for key, value in options.items() if key in options_of(name)}
        model = build_model(
            name, source_vocabulary_size=size, target_vocabulary_size=size, shared_vocabulary=True, **known
        )
        save_model(model, directory)
        text = {"lowercase": True, "source_max_length": 50, "shared": True, "decoding": DECODING}
        (directory / "text.json").write_text(json.dumps(text))
        (directory / "run.json").write_text(json.dumps({"fingerprint": f"{name}-{seed}", "model": name}))
        report = tmp_path / "reports" / name
        report.mkdir(parents=True, exist_ok=True)
        (report / "metrics.json").write_text(json.dumps({"rouge1": rouge1, "rouge2": 1.0}))
        return directory

    return make
