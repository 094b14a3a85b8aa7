"""A batch that does not fit into memory is done in two halves, once, with a word about it."""

import logging

import pytest
import small_training
import torch

from precis.errors import PrecisError
from precis.models.pointer_generator import PointerGenerator

PLAIN = {"max_epochs": 1, "validations_per_epoch": 1, "model_name": "pointer"}


@pytest.fixture
def small_memory(monkeypatch, tmp_path):
    """A function: more rows than this fail to be allocated while training, as they do when memory is full."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setitem(small_training.OPTIONS, "dropout", 0.0)
    whole = PointerGenerator.training_loss

    def set_limit(rows, updates=None):
        count = iter(range(10_000))

        def training_loss(self, source, target, *weight):
            if self.training and len(source.ids) > rows and (updates is None or next(count) in updates):
                torch.empty(10**15)  # raises what torch raises
            return whole(self, source, target, *weight)

        monkeypatch.setattr(PointerGenerator, "training_loss", training_loss)

    return set_limit


def weights(folder):
    return torch.load(sorted((folder / "work").glob("*.ckpt"))[-1], weights_only=True)["state_dict"]


def test_halves_give_the_gradient_of_the_whole_batch(tmp_path, small_memory, caplog):
    """Eleven batches of 8 rows, and one of 2 that fits; rounding is all that differs."""
    for name in ("enough", "little", "again"):
        (tmp_path / name).mkdir()
    small_training.run(tmp_path / "enough", **PLAIN)
    small_memory(rows=4)
    with caplog.at_level(logging.WARNING):
        small_training.run(tmp_path / "little", **PLAIN)
    told = [record.message for record in caplog.records if "does not fit into memory" in record.message]
    assert len(told) == 11 and "a batch of 8 rows" in told[0] and "lower train.batch_size" in told[0]
    expected = weights(tmp_path / "enough")
    for key, value in weights(tmp_path / "little").items():
        torch.testing.assert_close(value, expected[key], rtol=2e-3, atol=2e-5)
    small_training.run(tmp_path / "again", **PLAIN)
    for key, value in weights(tmp_path / "again").items():
        assert torch.equal(value, weights(tmp_path / "little")[key])


def test_what_dropout_draws_depends_on_nothing_that_failed(tmp_path, small_memory, monkeypatch):
    monkeypatch.setitem(small_training.OPTIONS, "dropout", 0.3)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        small_memory(rows=4, updates={2})
        small_training.run(tmp_path / name, **PLAIN)
    assert all(
        torch.equal(value, weights(tmp_path / "two")[key]) for key, value in weights(tmp_path / "one").items()
    )


def test_half_a_batch_that_does_not_fit_ends_the_training_with_advice(tmp_path, small_memory):
    small_memory(rows=3)
    with pytest.raises(PrecisError, match=r"(?s)half a batch of 8 rows.*lower train.batch_size"):
        small_training.run(tmp_path, **PLAIN)
