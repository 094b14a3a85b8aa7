"""An exported model gives the summaries of the model, without torch."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_model import DOCUMENTS, write_model

from precis import Summarizer
from precis.errors import PrecisError
from precis.manifest import write_manifest
from precis.opening import located

pytest.importorskip("onnxruntime")

from precis.export.runtime import OnnxSummarizer
from precis.export.write import export_model


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def export(directory: Path, output: Path) -> OnnxSummarizer:
    with located(str(directory)) as found:
        export_model(
            found.directory, output, decoding=found.decoding, digest=found.digest, run_id=found.run_id,
            model_version=found.model_version,
        )  # fmt: skip
    return OnnxSummarizer.load(output)


def lively(directory: Path, seed: int = 3) -> Path:
    """Give every weight a say, also those that begin at zero."""
    generator = np.random.default_rng(seed)
    path = directory / "model.safetensors"
    weights = load_file(path)
    save_file(
        {name: np.asarray(w + generator.normal(0, 0.3, w.shape), np.float32) for name, w in weights.items()},
        path,
    )
    return directory


def many_documents(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    words = " ".join(DOCUMENTS).split()
    made = [" ".join(generator.choice(words, size=generator.integers(1, 80))) for _ in range(count)]
    return [*DOCUMENTS, "", *made]


def assert_same(torch_summaries, onnx_summaries):
    for expected, found in zip(torch_summaries, onnx_summaries, strict=True):
        assert found.text == expected.text and found.words == expected.words
        assert found.summary_id == expected.summary_id and found.run_id == expected.run_id
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        assert_same(expected.alternatives, found.alternatives)
        for token, other in zip(found.tokens, expected.tokens, strict=True):
            assert (token.text, token.source, token.origin) == (other.text, other.source, other.origin)
            values = [token.probability, token.copied, token.p_gen or 0]
            assert values == pytest.approx([other.probability, other.copied, other.p_gen or 0], abs=1e-4)


SEE = {
    "attention": "additive",
    "input_feeding": True,
    "attend_with_cell": True,
    "coverage": True,
    "decoder_size": 7,
}
MODELS = [
    *[
        ("encoder_decoder", {"cell": cell, "layers": layers})
        for cell in ("lstm", "gru", "rnn")
        for layers in (1, 2)
    ],
    *[
        ("pointer", {"attention": a, "coverage": c})
        for a in ("dot", "general", "concat", "additive")
        for c in (0, 1)
    ],
    ("attention", {"cell": "gru", "intra_attention": True, "tie_embeddings": True, "layers": 2}),
    ("attention", {"cell": "rnn", "bidirectional": False, "decoder_size": 6, "readout": "linear"}),
    ("pointer", SEE),
    ("pointer", {**SEE, "layers": 2, "intra_attention": True}),
    ("pointer", {"generation": "pointer_only"}),
]


@pytest.mark.parametrize(("name", "options"), MODELS)
def test_every_kind_of_model_gives_the_same_summaries(tmp_path, name, options):
    options = {key: bool(value) if key == "coverage" else value for key, value in options.items()}
    directory = lively(write_model(tmp_path / "model", name, **options))
    exported = export(directory, tmp_path / "out")
    documents = many_documents(40)
    assert_same(Summarizer.load(directory).summarize(documents), exported.summarize(documents))


def test_coverage_that_is_off_stays_off(tmp_path):
    directory = lively(write_model(tmp_path / "model", "pointer", coverage=True, coverage_on=False))
    exported = export(directory, tmp_path / "out")
    assert_same(Summarizer.load(directory).summarize(DOCUMENTS), exported.summarize(DOCUMENTS))


@pytest.mark.parametrize(
    "decoding",
    [
        {"beam_size": 1},
        {"beam_size": 8, "n_best": 8, "length_penalty": "none"},
        {"beam_size": 3, "n_best": 6, "stop_early": False, "length_penalty": "wu", "length_alpha": 1.6},
        {"beam_size": 6, "groups": 3, "diversity": 1.5, "n_best": 4},
        {"coverage_penalty": "wu", "coverage_beta": 0.3},
        {"coverage_penalty": "summary", "coverage_beta": 2.0, "length_penalty": "none"},
        {"min_length": 7, "max_length": 7, "block_ngrams": 1},
        {"block_ngrams": 2, "block_exceptions": ["the", "of"], "max_length": 20},
        {"banned_words": ["the", "number", "fox", "zürich"]},
        {"shortlist": True},
    ],
)
def test_every_way_to_decode_gives_the_same_summaries(tmp_path, decoding):
    counts = dict.fromkeys(["over", "number", "of", "the"], 3)
    directory = lively(write_model(tmp_path / "model", "pointer", summary_counts=counts))
    exported = export(directory, tmp_path / "out")
    documents = many_documents(60, seed=1)
    assert_same(
        Summarizer.load(directory).summarize(documents, **decoding), exported.summarize(documents, **decoding)
    )


def test_the_batch_changes_nothing_and_threads_do_not_disturb_each_other(tmp_path):
    exported = export(write_model(tmp_path / "model", "pointer"), tmp_path / "out")
    documents = many_documents(20)
    expected = [summary.text for summary in exported.summarize(documents)]
    assert [exported.summarize(document).text for document in documents] == expected
    found = {}

    def work(number):
        found[number] = [summary.text for summary in exported.summarize(documents, batch_size=number + 1)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 4


def test_nothing_of_torch_is_needed_to_serve(tmp_path):
    directory = write_model(tmp_path / "model", "pointer")
    export(directory, tmp_path / "out")
    code = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "mlflow", "pytorch_lightning"):
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, NoTorch())
from precis.cli import main
sys.argv = ["precis", "summarize", "--model", *sys.argv[1:]]
main()
"""
    text = tmp_path / "text.txt"
    text.write_text(DOCUMENTS[0])
    command = [sys.executable, "-c", code, str(tmp_path / "out"), "--provenance", str(text)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = Summarizer.load(directory).summarize(DOCUMENTS[0])
    found = json.loads(done.stdout)
    assert (found["summary"], found["summary_id"]) == (expected.text, expected.summary_id)


def test_what_is_not_exported_is_refused(tmp_path):
    directory = write_model(tmp_path / "model", "pointer")
    exported = export(directory, tmp_path / "out")
    with pytest.raises(PrecisError, match="draws no samples"):
        exported.summarize("text", samples=2)
    with pytest.raises(PrecisError, match="is no exported model"):
        export(directory, tmp_path)
    options = json.loads((directory / "model.json").read_text())
    options["options"]["memory_cells"] = 4
    (directory / "model.json").write_text(json.dumps(options))
    before = (tmp_path / "out" / "manifest.json").read_text()
    with pytest.raises(PrecisError, match="nothing for the options memory_cells"):
        export(directory, tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_text() == before
    del options["options"]["memory_cells"]
    (directory / "model.json").write_text(json.dumps(options))
    weights = load_file(directory / "model.safetensors")
    save_file({**weights, "more": np.zeros(3, np.float32)}, directory / "model.safetensors")
    with pytest.raises(PrecisError, match="does not know what to do with the weights more"):
        export(directory, tmp_path / "out")


def test_a_damaged_export_is_not_served(tmp_path):
    export(write_model(tmp_path / "model", "pointer"), tmp_path / "out")
    graph = tmp_path / "out" / "decoder.onnx"
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 1
    graph.write_bytes(data)
    with pytest.raises(PrecisError, match=r"decoder\.onnx: SHA-256 is"):
        OnnxSummarizer.load(tmp_path / "out")
    with pytest.raises(PrecisError, match=r"has no export\.json"):
        OnnxSummarizer.load(tmp_path / "model")
    graph.write_bytes(b"no graph")
    write_manifest(tmp_path / "out")  # somebody made the digests fit
    with pytest.raises(PrecisError, match=r"cannot be run by onnxruntime"):
        OnnxSummarizer.load(tmp_path / "out")
    (tmp_path / "out" / "export.json").write_text('{"format": 1}')
    write_manifest(tmp_path / "out")
    with pytest.raises(PrecisError, match=r"lacks attends, copies, digest"):
        OnnxSummarizer.load(tmp_path / "out")
