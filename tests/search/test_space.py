"""Search spaces: what is read, and what is refused before anything runs."""

from pathlib import Path

import pytest

from precis.corpora.overrides import load_yaml
from precis.errors import PrecisError
from precis.search.space import load_space, with_values

ROOT = Path(__file__).parents[2]


@pytest.fixture
def values():
    return load_yaml(ROOT / "params.yaml")


@pytest.fixture
def read(tmp_path, values):
    def read_text(text):
        (tmp_path / "space.yaml").write_text(text)
        return load_space(tmp_path / "space.yaml", values)

    return read_text


def test_the_space_that_comes_with_precis_can_be_searched(values):
    assert "model.dropout" in load_space(ROOT / "search.yaml", values)


def test_lists_and_ranges_become_what_is_drawn_from(read):
    space = read(
        "model: {dropout: {low: 0.1, high: 0.5, step: 0.1}, cell: [gru, lstm]}\n"
        "train: {learning_rate: {low: 0.001, high: 0.01, log: true}, batch_size: {low: 8, high: 32}}\n"
    )
    assert list(space) == ["model.dropout", "model.cell", "train.learning_rate", "train.batch_size"]
    assert space["model.cell"].choices == ("gru", "lstm")
    assert (space["model.dropout"].low, space["model.dropout"].step) == (0.1, 0.1)
    assert space["train.learning_rate"].log
    # numbers without a fraction stay so: params.yaml takes no 16.0
    assert isinstance(space["train.batch_size"].low, int) and space["train.batch_size"].step == 1


def test_every_problem_is_told_at_once(read):
    with pytest.raises(PrecisError) as error:
        read(
            "model: {dropout: [0.1, 1.5], cel: [gru, lstm], layers: 2}\n"
            "train: {batch_size: {low: 32, high: 8}, epochs: {from: 1}}\n"
            "decoding: {beam_size: [1, 4]}\n"
        )
    message = str(error.value)
    assert "space.yaml cannot be searched:" in message
    assert "model.dropout: with 1.5 cannot be used: model.dropout: Input should be less than 1" in message
    assert "model.cel: params.yaml has no such key" in message.replace("model.cel: model.cel:", "model.cel:")
    assert "model.layers: found 2; expected a list of values, or low and high" in message
    assert "train.batch_size: low 32 is not below high 8" in message
    assert "train.epochs.from: found 1; expected a list" in message
    assert "decoding.beam_size: only text, vocabulary, encode, model, train can be searched" in message


@pytest.mark.parametrize("text", ["", "- 1\n", "just words\n"])
def test_a_file_without_sections_is_no_space(read, text):
    with pytest.raises(PrecisError, match="is no search space"):
        read(text)


def test_values_that_do_not_go_together_are_refused(values):
    with pytest.raises(PrecisError, match="queries as wide as the encoder states"):
        with_values(values, {"model.attention": "dot", "model.decoder_size": 100})
    assert values["model"]["decoder_size"] != 100  # what was given is as it was
