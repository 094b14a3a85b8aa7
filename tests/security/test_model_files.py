"""Model folders that a stranger made: nothing in them runs, and each is refused with one clear message."""

import json
import os
import random
import struct
from pathlib import Path

import pytest

from precis.errors import PrecisError
from precis.manifest import write_manifest
from precis.serving.summarizer import Summarizer

FILES = ("model.safetensors", "model.json", "text.json", "run.json", "shared.txt", "manifest.json")


def refused(folder: Path, match: str) -> None:
    with pytest.raises(PrecisError, match=match) as caught:
        Summarizer.load(folder)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", [*FILES, "extra.pkl"])
@pytest.mark.parametrize("form", ["pickled", "torch_checkpoint"])
@pytest.mark.parametrize("knows_the_manifest", [False, True])
def test_a_pickle_in_place_of_any_file_does_not_run(model_folder, payload, name, form, knows_the_manifest):
    (model_folder / name).write_bytes(getattr(payload, form)())
    if knows_the_manifest and name != "manifest.json":
        write_manifest(model_folder)
        if name == "extra.pkl":
            Summarizer.load(model_folder)  # listed, and nobody reads it
            return
    refused(model_folder, name.split(".")[0])


def test_without_a_manifest_a_pickle_does_not_run_either(model_folder, payload):
    (model_folder / "manifest.json").unlink()
    for name in FILES[:5]:
        content = (model_folder / name).read_bytes()
        (model_folder / name).write_bytes(payload.pickled())
        refused(model_folder, name)
        (model_folder / name).write_bytes(content)


def test_a_folder_without_a_manifest_is_used_with_a_warning(model_folder, caplog):
    (model_folder / "manifest.json").unlink()
    Summarizer.load(model_folder)
    assert "has no manifest.json" in caplog.text


def write_safetensors(path: Path, header: bytes, length: int | None = None) -> None:
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + bytes(16))


def test_weights_with_a_lying_header_are_refused(model_folder):
    weights = model_folder / "model.safetensors"
    (model_folder / "manifest.json").unlink()
    one = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    headers = {
        "longer than the file": (b"{}", 1 << 40),
        "of more than 100 MB": (b"{}", 200_000_000),
        "no JSON": (b"\xff" * 64, None),
        "outside of the file": (json.dumps({"w": {**one, "data_offsets": [0, 1 << 40]}}).encode(), None),
        "a shape that is too large": (json.dumps({"w": {**one, "shape": [1 << 62, 1 << 62]}}).encode(), None),
        "a negative shape": (json.dumps({"w": {**one, "shape": [-2, -2]}}).encode(), None),
        "a name that climbs": (json.dumps({"../../w": one}).encode(), None),
        "nested": (b"[" * 100_000, None),
    }
    for header, length in headers.values():
        write_safetensors(weights, header, length)
        refused(model_folder, "model.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 10**9},
        {"hidden_size": 10**18},
        {"layers": 10**9},
        {"source_vocabulary_size": 10**12, "target_vocabulary_size": 10**12},
        {"embedding_size": 10**400},
        {"cell": "__import__('os').system('true')"},
        {"dropout": "nan"},
        {"shared_vocabulary": "yes"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_options_that_do_not_fit_the_weights_take_no_memory(model_folder, changes):
    path = model_folder / "model.json"
    values = json.loads(path.read_text())
    values["options"] |= changes
    path.write_text(json.dumps(values))
    (model_folder / "manifest.json").unlink()
    refused(model_folder, "model")


def test_settings_that_no_training_writes_are_refused(model_folder):
    path = model_folder / "text.json"
    good = json.loads(path.read_text())
    (model_folder / "manifest.json").unlink()
    for changes in (
        {"lowercase": "yes"},
        {"source_max_length": 0},
        {"source_max_length": True},
        {"shared": None},
        {"decoding": []},
        {"decoding": {"beam_size": "4"}},
        {"model": "models/other"},
    ):
        path.write_text(json.dumps({**good, **changes}))
        refused(model_folder, "text.json")
    path.write_text("[" * 200_000)
    refused(model_folder, "text.json")


def test_a_vocabulary_of_another_model_is_refused(model_folder):
    path = model_folder / "shared.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    (model_folder / "manifest.json").unlink()
    refused(model_folder, "not of one training")


@pytest.mark.parametrize("target", ["/dev/zero", "/etc/passwd", "pipe", "itself"])
@pytest.mark.parametrize("name", FILES)
@pytest.mark.timeout(60)
def test_a_link_a_device_or_a_pipe_is_not_read(model_folder, tmp_path, name, target):
    path = model_folder / name
    path.unlink()
    if target == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path if target == "itself" else target)
    with pytest.raises(PrecisError) as caught:
        Summarizer.load(model_folder)
    assert "root:" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/passwd", "a/../../b", "a\\b", "a\0b", ".", "", "a//b"]
)
def test_a_manifest_lists_no_file_outside_of_its_folder(model_folder, name):
    path = model_folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: "0" * 64}))
    refused(model_folder, "no file of its folder")


def test_one_flipped_bit_is_found_400_times_of_400_and_one_cut_100_times_of_100(model_folder):
    """Everywhere in the folder: weights, options, words, settings, and the manifest itself."""
    generator = random.Random(1)
    sizes = [(model_folder / name).stat().st_size for name in FILES]
    found = {"flips": 0, "cuts": 0}
    for kind, trials in (("flips", 400), ("cuts", 100)):
        for trial in range(trials):
            # small files would hardly be met otherwise
            name = FILES[trial % len(FILES)] if trial % 2 else generator.choices(FILES, sizes)[0]
            path = model_folder / name
            good = path.read_bytes()
            if kind == "flips":
                place = generator.randrange(len(good) * 8)
                bad = bytearray(good)
                bad[place // 8] ^= 1 << (place % 8)
            else:
                bad = good[: generator.randrange(len(good))]
            path.write_bytes(bad)
            try:
                Summarizer.load(model_folder)
            except PrecisError as error:
                assert name in str(error) or "manifest" in str(error)
                found[kind] += 1
            path.write_bytes(good)
    Summarizer.load(model_folder)
    assert found == {"flips": 400, "cuts": 100}
