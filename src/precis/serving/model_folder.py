"""What a model folder holds, checked before it is used: somebody else may have made it.

A folder with a manifest is compared with it, file by file, before anything is read. Weights are safetensors, all else
is JSON and text: nothing in a folder is executed.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from precis.errors import PrecisError
from precis.files import read_ordinary
from precis.manifest import MANIFEST, check_manifest
from precis.serving.settings import check_values
from precis.text.vocabulary import Vocabulary

log = logging.getLogger(__name__)

TEXT_FILE = "text.json"
RUN_FILE = "run.json"
_LARGEST_JSON = 10_000_000  # bytes
_TEXT_SETTINGS = {"lowercase": bool, "source_max_length": int, "shared": bool}


def read_text_settings(directory: str | os.PathLike[str]) -> tuple[Vocabulary, Vocabulary, dict[str, Any]]:
    """The vocabularies of source and target of a model folder, and the other arguments of a summarizer.

    Raises:
        PrecisError: a file is missing, was changed since the folder was written, or is not what it should be.
    """
    directory = Path(directory)
    text = _text_settings(directory / TEXT_FILE)
    manifest = directory / MANIFEST
    if manifest.exists() or manifest.is_symlink():
        check_manifest(directory)
    else:
        log.warning(
            "%s has no %s: whether a file of it was damaged or exchanged is not checked", directory, MANIFEST
        )
    if text["shared"]:
        source = target = Vocabulary.load(directory / "shared.txt")
    else:
        source = Vocabulary.load(directory / "source.txt")
        target = Vocabulary.load(directory / "target.txt")
    if (directory / RUN_FILE).exists():
        run_id = read_json(directory / RUN_FILE).get("run_id")
        text["run_id"] = run_id if isinstance(run_id, str) else None
    return source, target, text


def check_vocabularies(
    directory: str | os.PathLike[str], source: Vocabulary, target: Vocabulary, options: Mapping[str, Any]
) -> None:
    """Refuse, with a PrecisError, words that are not those of the model with these options."""
    for side, vocabulary in (("source", source), ("target", target)):
        wanted = options[f"{side}_vocabulary_size"]
        if len(vocabulary) != wanted:
            raise PrecisError(
                f"{directory}: the model knows {wanted} {side} words, its vocabulary has {len(vocabulary)}: "
                "they are not of one training"
            )


def _text_settings(path: Path) -> dict[str, Any]:
    text = read_json(path)
    missing = _TEXT_SETTINGS.keys() - text.keys()
    if missing:
        raise PrecisError(f"{path} lacks {', '.join(sorted(missing))}: train the model again")
    problems = [f"{name}: unknown key" for name in sorted(text.keys() - _TEXT_SETTINGS.keys() - {"decoding"})]
    for name, kind in _TEXT_SETTINGS.items():
        if type(text[name]) is not kind or (kind is int and text[name] < 1):
            problems.append(f"{name}: expected {_KINDS[kind]}, found {_shown(text[name])}")
    # a model that was packaged knows how it was evaluated; before, the caller says how to decode
    decoding = text.setdefault("decoding", {})
    if not isinstance(decoding, dict):
        problems.append(f"decoding: expected an object, found {_shown(decoding)}")
    if problems:
        raise PrecisError("\n".join([f"{path} cannot be used:", *(f"  {problem}" for problem in problems)]))
    try:
        check_values(decoding)
    except PrecisError as error:
        raise PrecisError(f"{path}: {error}") from error
    return text


_KINDS = {bool: "true or false", int: "a whole number of at least 1"}


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file of a model folder; PrecisError if it is missing or something else."""
    try:
        contents = json.loads(read_ordinary(path, _LARGEST_JSON).decode("utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(
            f"{path} is missing: {path.parent} is not the directory of a trained model"
        ) from error
    except (ValueError, RecursionError) as error:
        raise PrecisError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(contents, dict):
        raise PrecisError(f"{path}: expected an object, found {type(contents).__name__}")
    return contents


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
