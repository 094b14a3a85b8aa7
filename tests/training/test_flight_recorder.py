"""A NaN names the row that caused it, and no weight ever takes it up."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_training import run, write_corpus

from precis.errors import PrecisError

POISONED_ROW = "train/17"


@pytest.fixture
def poisoned(tmp_path, monkeypatch):
    """A corpus in which one row alone has a word whose embedding is NaN."""
    import numpy as np
    import pyarrow as pa

    from precis.batches.encoded import SCHEMA, EncodedCorpus, write_encoded

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    write_corpus(tmp_path / "encoded")
    path = tmp_path / "encoded" / "train.arrow"
    with pa.ipc.open_file(str(path)) as reader:
        rows = reader.read_all().to_pylist()
    poison = 19
    for row in rows:
        for column in ("source_ids", "source_extended_ids", "target_ids"):
            row[column] = [4 if word == poison else word for word in row[column]]
    (row,) = [row for row in rows if row["id"] == POISONED_ROW]
    row["source_ids"][0] = row["source_extended_ids"][0] = poison
    write_encoded([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)], path)
    assert sum(int(np.sum(EncodedCorpus(path)[number].source_ids == poison)) for number in range(90)) == 1

    import small_training

    build = small_training.build_model

    def with_a_nan(*arguments, **options):
        # apart from the target's: the output layer would carry the NaN to every row
        model = build(*arguments, **{**options, "shared_vocabulary": False})
        with torch.no_grad():
            model.seq2seq.embeddings.source[poison] = float("nan")
        return model

    monkeypatch.setattr(small_training, "build_model", with_a_nan)
    return tmp_path


def test_training_stops_and_names_the_row_and_the_file(poisoned):
    with pytest.raises(PrecisError, match=f"the rows '{POISONED_ROW}' caused it") as caught:
        run(poisoned)
    (path,) = (poisoned / "work").glob("non_finite_*.safetensors")
    assert str(path) in str(caught.value)
    with safe_open(path, "pt") as file:
        ids = json.loads(file.metadata()["row_ids"])
        assert file.get_tensor("source_ids").shape[0] == len(ids)
    assert POISONED_ROW in ids


def test_a_batch_may_be_skipped_so_many_times(poisoned, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    # weights with a NaN are not saved, so the poisoned embedding is left out of what is checked
    monkeypatch.setattr("precis.training.best_model.refuse_non_finite", lambda weights: None)
    monkeypatch.setattr("precis.training.checkpoints.refuse_non_finite", lambda weights: None)
    with pytest.raises(PrecisError, match=POISONED_ROW):
        run(poisoned, max_epochs=3, max_skipped_batches=2)
    assert caplog.text.count(f"'{POISONED_ROW}'") == 2
    weights = load_file(poisoned / "work" / "best" / "model.safetensors")
    spoiled = [name for name, weight in weights.items() if not weight.isfinite().all()]
    assert spoiled == ["seq2seq.embeddings.source"], "no other weight took up the NaN"


class _Planted(torch.autograd.Function):
    """The number itself, and an infinity as its gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("inf")


def test_an_infinity_in_the_gradient_alone_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    import small_training

    build = small_training.build_model

    def with_a_trap(*arguments, **options):
        model = build(*arguments, **options)
        loss_of = model.training_loss

        def training_loss(source, target, *weight):
            losses = loss_of(source, target, *weight)
            trapped = (source.extended_ids == 22).any()  # a source with three unknown words
            return replace(losses, total=_Planted.apply(losses.total)) if trapped else losses

        model.training_loss = training_loss
        return model

    monkeypatch.setattr(small_training, "build_model", with_a_trap)
    with pytest.raises(PrecisError, match=r"the rows 'train/.*' caused it") as caught:
        run(tmp_path)
    (path,) = (tmp_path / "work").glob("non_finite_*.safetensors")
    assert str(path) in str(caught.value)
    with safe_open(path, "pt") as file:
        ids, guilty = (json.loads(file.metadata()[key]) for key in ("row_ids", "guilty_row_ids"))
        trapped = (file.get_tensor("source_extended_ids") == 22).any(dim=1)
    assert guilty == [row for row, is_trapped in zip(ids, trapped.tolist(), strict=True) if is_trapped]


def test_a_nan_in_a_weight_is_told_from_a_bad_row(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    import small_training

    build = small_training.build_model

    def with_a_nan(*arguments, **options):
        model = build(*arguments, **options)
        with torch.no_grad():
            model.gate.weight[0, 3] = float("nan")
        return model

    monkeypatch.setattr(small_training, "build_model", with_a_nan)
    with pytest.raises(PrecisError, match=r"the weights gate.weight held a NaN .* and so every row fails"):
        run(tmp_path)
