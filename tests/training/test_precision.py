"""Training in bfloat16 ends near where full precision ends, with weights in float32."""

import pytest
from safetensors.torch import load_file
from small_training import run


def test_bfloat16_learns_as_well_and_keeps_full_weights(tmp_path, monkeypatch):
    losses = {}
    for precision in ("full", "bfloat16"):
        folder = tmp_path / precision
        folder.mkdir()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        losses[precision] = run(folder, precision=precision, max_epochs=3).best_loss
        weights = load_file(folder / "work" / "best" / "model.safetensors")
        assert {str(weight.dtype) for weight in weights.values()} == {"torch.float32"}
    assert losses["bfloat16"] == pytest.approx(losses["full"], rel=0.03)
    assert losses["bfloat16"] != losses["full"], "it did compute in another precision"
