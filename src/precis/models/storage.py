"""A model on disk: the weights as safetensors, and the options that build it as JSON. Nothing is pickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from precis.errors import PrecisError
from precis.files import atomic_path
from precis.models.base import SummarizationModel
from precis.models.build import build_model

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
OPTIONS_FILE = "model.json"


def save_model(model: SummarizationModel, directory: str | os.PathLike[str]) -> None:
    """Write model.safetensors and model.json: equal models give equal bytes; each file is whole or absent.

    Args:
        model: of `build_model`; it stays on its device and in its mode.
        directory: made if absent; other files in it stay.
    """
    directory = Path(directory)
    weights = {key: value.detach().cpu().contiguous() for key, value in sorted(model.state_dict().items())}
    with atomic_path(directory / WEIGHTS_FILE) as path:
        save_file(weights, path)
    contents = {"format": FORMAT, "name": model.name, "options": model.options}
    with atomic_path(directory / OPTIONS_FILE) as path:
        path.write_text(json.dumps(contents, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_model(directory: str | os.PathLike[str]) -> SummarizationModel:
    """The model that `save_model` wrote, in evaluation mode, on the CPU.

    Raises:
        PrecisError: a file is missing, broken, of another format, or does not belong to the other.
    """
    directory = Path(directory)
    name, options = _read_options(directory / OPTIONS_FILE)
    path = directory / WEIGHTS_FILE
    try:
        weights = load_file(path)
    except FileNotFoundError as error:
        raise PrecisError(
            f"{path} is missing: a model directory has {WEIGHTS_FILE} and {OPTIONS_FILE}"
        ) from error
    except (SafetensorError, OSError) as error:
        raise PrecisError(f"{path} cannot be read as safetensors: {error}") from error
    with torch.random.fork_rng(devices=[]):  # the first weights are random and thrown away
        model = build_model(name, **options)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise PrecisError(f"{path} does not fit {directory / OPTIONS_FILE}: {error}") from error
    return model.eval()


def _read_options(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(f"{path} is missing: {path.parent} is not the directory of a model") from error
    except (OSError, ValueError) as error:
        raise PrecisError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        found = contents.get("format") if isinstance(contents, dict) else type(contents).__name__
        raise PrecisError(f"{path}: expected format {FORMAT}, found {found!r}; train the model again")
    name, options = contents.get("name"), contents.get("options")
    if not isinstance(name, str) or not isinstance(options, dict):
        raise PrecisError(f"{path}: expected a name and options, found {sorted(contents)}")
    missing = {"source_vocabulary_size", "target_vocabulary_size", "shared_vocabulary"} - options.keys()
    if missing:
        raise PrecisError(f"{path}: options lack {', '.join(sorted(missing))}")
    return name, options
