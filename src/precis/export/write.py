"""Writing an exported model: a folder that `precis.export.runtime` serves."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from precis.errors import PrecisError
from precis.export.runtime import DECODER_FILE, ENCODER_FILE, EXPORT_FILE, FORMAT
from precis.files import atomic_directory
from precis.manifest import write_manifest
from precis.serving.model_folder import RUN_FILE, TEXT_FILE, read_json, read_text_settings

WEIGHTS_FILE, OPTIONS_FILE = "model.safetensors", "model.json"


def export_model(
    directory: Path,
    output: Path,
    *,
    decoding: dict[str, Any],
    digest: str,
    run_id: str | None,
    model_version: str | None,
) -> None:
    """Write encoder, decoder step, vocabularies, text settings and a manifest; whole or not at all.

    Args:
        directory: of the model.
        output: the folder to make; one that is there already must be empty or an older export.
        decoding: the settings that the exported model decodes with unless told otherwise.
        digest: of the model's files: summaries carry the ids that the model itself would give them.
        run_id: the training run, where known.
        model_version: the version in the registry, where known.

    Raises:
        PrecisError: the model has something that is not exported, `output` has other files, or onnx is not
            installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise PrecisError("exporting needs onnx: pip install 'precis[onnx]'") from error
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from precis.export.graphs import OPSET, ModelGraphs

    if output.exists() and (
        not output.is_dir() or (any(output.iterdir()) and not (output / EXPORT_FILE).is_file())
    ):
        raise PrecisError(f"{output} is there already, and is no exported model: give another --out")
    read_text_settings(directory)  # says what is wrong with it
    options = read_json(directory / OPTIONS_FILE)
    try:
        weights = load_file(directory / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise PrecisError(f"{directory / WEIGHTS_FILE} cannot be read as safetensors: {error}") from error
    graphs = ModelGraphs(options.get("name", ""), options.get("options", {}), weights)
    about = {
        "format": FORMAT,
        "model": graphs.name,
        "opset": OPSET,
        "memory": list(graphs.memory),
        "state": {name: list(shape) for name, shape in graphs.state.items()},
        "copies": graphs.copies,
        "attends": graphs.attends,
        "generates": graphs.generates,
        "digest": digest,
        "run_id": run_id,
        "model_version": model_version,
        "precis_version": version("precis"),
    }
    text = {**read_json(directory / TEXT_FILE), "decoding": decoding}
    with atomic_directory(output) as folder:
        onnx.save(graphs.encoder, folder / ENCODER_FILE)
        onnx.save(graphs.decoder, folder / DECODER_FILE)
        for name, values in ((EXPORT_FILE, about), (TEXT_FILE, text)):
            written = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            (folder / name).write_text(written, encoding="utf-8")
        for name in ("shared.txt", "source.txt", "target.txt", RUN_FILE):
            if (directory / name).is_file():
                shutil.copy(directory / name, folder / name)
        write_manifest(folder)
