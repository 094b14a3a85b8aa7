"""A model on disk: the weights as safetensors, and the options that build it as JSON. Nothing is pickled."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from precis.errors import PrecisError
from precis.files import atomic_path, read_ordinary
from precis.models.base import SummarizationModel
from precis.models.build import build_model

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
OPTIONS_FILE = "model.json"
_LARGEST_OPTIONS = 1_000_000  # bytes
_MOST_OF_ANYTHING = 1 << 31  # words, units, layers


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

    Nothing in the files is executed, and no more memory is taken than the weights have bytes, whatever the options
    say.

    Raises:
        PrecisError: a file is missing, broken, of another format, or does not belong to the other.
    """
    directory = Path(directory)
    name, options = _read_options(directory / OPTIONS_FILE)
    path = directory / WEIGHTS_FILE
    weights = _read_weights(path)
    problems = _differences(weights, name, options)
    if problems:
        shown = "\n".join(f"  {problem}" for problem in problems[:10])
        raise PrecisError(f"{path} does not fit {directory / OPTIONS_FILE}:\n{shown}")
    with torch.random.fork_rng(devices=[]):  # the first weights are random and thrown away
        model = build_model(name, **options)
    model.load_state_dict(weights)
    return model.eval()


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PrecisError(f"{path} is no ordinary file")
        weights = load_file(path)
    except FileNotFoundError as error:
        raise PrecisError(
            f"{path} is missing: a model directory has {WEIGHTS_FILE} and {OPTIONS_FILE}"
        ) from error
    except (SafetensorError, OSError) as error:
        raise PrecisError(f"{path} cannot be read as safetensors: {error}") from error
    names = [
        name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if names:
        raise PrecisError(f"{path} has NaN or infinity in {', '.join(names[:10])}: it is not used")
    return weights


def _differences(weights: Mapping[str, torch.Tensor], name: str, options: Mapping[str, Any]) -> list[str]:
    """What the weights lack or have too much for a model with these options."""
    problems = [
        f"{key}: a number of {len(str(value))} digits is more than a model has"
        for key, value in options.items()
        if _is_huge(value)
    ]
    if problems:
        return problems
    layers = options.get("layers")
    if isinstance(layers, int) and layers > len(weights):
        return [f"layers is {layers}, and there are {len(weights)} tensors"]
    try:
        with torch.device("meta"):  # shapes alone: nothing is allocated before they fit
            expected = build_model(name, **options).state_dict()
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        return [f"size mismatch: no such model can be built ({str(error).splitlines()[0][:200]})"]
    problems = [f"{key}: missing" for key in sorted(expected.keys() - weights.keys())]
    problems += [f"{key}: not part of this model" for key in sorted(weights.keys() - expected.keys())]
    for key in sorted(expected.keys() & weights.keys()):
        wanted, found = expected[key], weights[key]
        if wanted.shape != found.shape or wanted.dtype != found.dtype:
            problems.append(
                f"{key}: size mismatch, expected {tuple(wanted.shape)} of {wanted.dtype}, "
                f"found {tuple(found.shape)} of {found.dtype}"
            )
    return problems


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and value > _MOST_OF_ANYTHING


def _read_options(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        contents = json.loads(read_ordinary(path, _LARGEST_OPTIONS).decode("utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(f"{path} is missing: {path.parent} is not the directory of a model") from error
    except (ValueError, RecursionError) as error:
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
    if name == "attention":  # of a time when only the pointer was told where to attend
        options.setdefault("pointing_weight", 0.0)
    return name, options
