"""Models on disk: equal bytes, equal answers, and one clear message for everything that is not a model."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from precis.errors import PrecisError
from precis.models.storage import load_model, save_model


@pytest.mark.parametrize("name", ["encoder_decoder", "attention", "pointer"])
def test_a_saved_model_answers_as_before(name, make_model, make_batch, tmp_path):
    source, target = make_batch()
    model = make_model(name, tie_embeddings=True).eval()
    save_model(model, tmp_path / "one")
    random_state = torch.random.get_rng_state()
    again = load_model(tmp_path / "one")
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert not again.training
    assert again.options == model.options and again.name == name
    assert again.training_loss(source, target).nll_sum == model.training_loss(source, target).nll_sum
    save_model(again, tmp_path / "two")
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["model.json", "model.safetensors"]


def test_tied_weights_are_written_once(make_model, tmp_path):
    model = make_model("pointer", tie_embeddings=True, shared_vocabulary=True, source_vocabulary_size=19)
    save_model(model, tmp_path)
    shapes = [tuple(tensor.shape) for tensor in load_file(tmp_path / "model.safetensors").values()]
    assert shapes.count((19, 6)) == 1


def test_coverage_comes_back_as_it_was_switched(make_model, tmp_path):
    model = make_model("attention", coverage=True)
    model.switch_coverage(False)
    save_model(model, tmp_path)
    assert load_model(tmp_path).coverage_on is False


def test_an_attention_model_that_was_not_told_where_to_attend_is_read(make_model, tmp_path):
    save_model(make_model("attention", pointing_weight=1.0), tmp_path)
    path = tmp_path / "model.json"
    contents = json.loads(path.read_text())
    del contents["options"]["pointing_weight"]  # as it was written before attention had it
    path.write_text(json.dumps(contents))
    assert load_model(tmp_path).options["pointing_weight"] == 0.0


def test_what_is_not_a_model_is_refused(make_model, tmp_path):
    with pytest.raises(PrecisError, match=r"model.json is missing"):
        load_model(tmp_path / "nowhere")
    save_model(make_model("pointer"), tmp_path)
    options = tmp_path / "model.json"
    weights = tmp_path / "model.safetensors"
    good_options, good_weights = options.read_text(), weights.read_bytes()

    options.write_text("{")
    with pytest.raises(PrecisError, match=r"model.json cannot be read as JSON"):
        load_model(tmp_path)
    options.write_text(json.dumps({**json.loads(good_options), "format": 99}))
    with pytest.raises(PrecisError, match="expected format 1, found 99"):
        load_model(tmp_path)
    options.write_text(json.dumps({"format": 1, "name": "pointer", "options": {}}))
    with pytest.raises(PrecisError, match="options lack shared_vocabulary"):
        load_model(tmp_path)
    changed = json.loads(good_options)
    changed["options"]["decoder_size"] = 9
    options.write_text(json.dumps(changed))
    with pytest.raises(PrecisError, match=r"(?s)does not fit .*size mismatch"):
        load_model(tmp_path)
    options.write_text(good_options)

    weights.write_bytes(good_weights[: len(good_weights) // 2])
    with pytest.raises(PrecisError, match="cannot be read as safetensors"):
        load_model(tmp_path)
    tensors = load_file_bytes(good_weights, tmp_path)
    tensors.popitem()
    save_file(tensors, weights)
    with pytest.raises(PrecisError, match="does not fit"):
        load_model(tmp_path)
    weights.unlink()
    with pytest.raises(PrecisError, match=r"model.safetensors is missing"):
        load_model(tmp_path)


def load_file_bytes(content, folder):
    path = folder / "copy.safetensors"
    path.write_bytes(content)
    return load_file(path)
