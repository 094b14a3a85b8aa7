"""What only a CUDA device can show: `make test-gpu`. Everywhere else these are skipped.

Notes on determinism. precis asks torch for operations that repeat themselves, and cuBLAS for a fixed workspace
(`precis.devices`): two trainings on the same GPU with the same versions give losses equal to a few last digits, and
mostly the same bytes. Other GPUs, other versions of CUDA, and other numbers of GPUs give other last digits, as on
processors another number of threads does.
"""

import json
import os
import subprocess
import sys

import pytest
import small_training
import torch
from safetensors.torch import load_file

from precis.devices import accelerator, lightning_settings, process_group_backend
from precis.models.build import build_model, options_of
from precis.models.source import Source, Target

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]

needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
LENGTHS = [9, 7, 4]


def losses(folder, settings, **environment):
    """All points of the curves of a training in a process of its own."""
    folder.mkdir()
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}", **environment}
    command = [sys.executable, small_training.__file__, folder, json.dumps(settings)]
    subprocess.run(command, env=environment, check=True, timeout=280)
    lines = (folder / "work/metrics.jsonl").read_text().splitlines()
    return {(name, step): value for name, value, _, step in map(json.loads, lines)}


def model_and_batch(name="pointer"):
    torch.manual_seed(0)
    options = {**small_training.OPTIONS, "dropout": 0.0}
    model = build_model(
        name,
        source_vocabulary_size=20,
        target_vocabulary_size=20,
        shared_vocabulary=True,
        **{key: value for key, value in options.items() if key in options_of(name)},
    )
    ids = torch.randint(4, 20, (3, 9))
    ids[torch.arange(9) >= torch.tensor(LENGTHS)[:, None]] = 0
    target = torch.randint(4, 20, (3, 5))
    return model, Source(ids, ids, torch.tensor(LENGTHS), 0), Target(target, target)


def test_the_device_is_the_gpu():
    assert accelerator() == "cuda" and lightning_settings("full")["accelerator"] == "cuda"
    assert process_group_backend(on_gpu=True) == "cpu:gloo,cuda:nccl"


@pytest.mark.parametrize("name", ["encoder_decoder", "attention", "pointer"])
def test_a_gpu_has_the_loss_and_the_gradient_of_a_processor(name):
    model, source, target = model_and_batch(name)
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        total = model.training_loss(source.to(device), target.to(device)).total
        total.backward()
        found.append(
            (total.item(), {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None})
        )
    (cpu_loss, cpu_gradient), (gpu_loss, gpu_gradient) = found
    assert gpu_loss == pytest.approx(cpu_loss, rel=1e-4)
    torch.testing.assert_close(gpu_gradient, cpu_gradient, rtol=1e-3, atol=1e-5)


def test_a_training_repeats_itself_and_ends_near_that_of_a_processor(tmp_path):
    settings = {"dropout": 0.0, "max_epochs": 3}
    first = losses(tmp_path / "first", settings)
    assert first == pytest.approx(losses(tmp_path / "again", settings), rel=1e-5)
    assert first == pytest.approx(losses(tmp_path / "cpu", settings, CUDA_VISIBLE_DEVICES=""), rel=0.02)


def test_bfloat16_learns_as_well_and_keeps_full_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    full = small_training.run(tmp_path, work="full", max_epochs=3, dropout=0.0)
    half = small_training.run(tmp_path, work="half", max_epochs=3, dropout=0.0, precision="bfloat16")
    assert half.best_loss == pytest.approx(full.best_loss, rel=0.05) and half.best_loss != full.best_loss
    weights = load_file(half.directory / "model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float32"}


def test_summaries_of_a_model_on_a_gpu_are_those_of_a_processor():
    from precis.serving.summarizer import Summarizer
    from precis.stages.train import _greedy
    from precis.text.vocabulary import Vocabulary

    words = [f"word{number}" for number in range(16)]
    vocabulary = Vocabulary(words, [1] * len(words), words)
    model, _, _ = model_and_batch()
    text = {"lowercase": True, "source_max_length": 20, "shared": True}
    summarizer = Summarizer(model.eval(), vocabulary, vocabulary, **text, decoding=_greedy(8))
    documents = ["word3 word5 unseen word1", "word9 word2"]
    expected = [summary.text for summary in summarizer.summarize(documents)]
    model.to("cuda")
    assert [summary.text for summary in summarizer.summarize(documents)] == expected


def test_a_compiled_step_has_the_loss_of_the_plain_one():
    model, source, target = model_and_batch()
    model.to("cuda").eval()
    source, target = source.to("cuda"), target.to("cuda")
    compiled = torch.compile(model.training_loss)
    with torch.no_grad():
        plain, fast = model.training_loss(source, target), compiled(source, target)
    torch.testing.assert_close(fast.total, plain.total, rtol=1e-4, atol=1e-5)


@needs_two
@pytest.mark.timeout(600)
def test_two_gpus_have_the_losses_of_one_over_nccl(tmp_path):
    settings = {"dropout": 0.0, "max_epochs": 9, "log_every_updates": 1, "patience": 100}
    one = losses(tmp_path / "one", settings)
    assert losses(tmp_path / "two", {**settings, "devices": 2}) == pytest.approx(one, abs=1e-3)
