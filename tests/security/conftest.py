"""A small model folder, and a payload that tells whether it ran."""

import importlib.util
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


def load_helper(path: Path):
    """A helper module of another folder of tests, under its own name."""
    if path.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[path.stem]


payload_module = load_helper(Path(__file__).with_name("payload.py"))


@pytest.fixture
def payload(tmp_path):
    """Every test that uses it ends with nothing having run."""
    made = payload_module.Payload(tmp_path / "executed")
    assert made.works()
    yield made
    assert not made.marker.exists(), "the planted code ran"


@pytest.fixture
def model_folder(tmp_path):
    """A whole model folder with its manifest."""
    from precis.manifest import write_manifest

    tiny_model = load_helper(TESTS / "serving" / "tiny_model.py")
    folder = tiny_model.write_model(tmp_path / "model", "pointer")
    write_manifest(folder)
    return folder
