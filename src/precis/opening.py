"""From what a person calls a model to its files. No torch: a wrong name is told at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precis.errors import PrecisError
from precis.serving.model_folder import read_text_settings

if TYPE_CHECKING:
    from precis.registry.versions import Version
    from precis.serving.text_summarizer import TextSummarizer

DEFAULT_NAME = "precis"  # of the registered model, where neither a URI nor params.yaml says
SCHEMES = ("models:/", "runs:/")
_PACKAGED = Path("artifacts/model")  # inside of what MLflow made of a model


@dataclass(frozen=True)
class Located:
    """The files of a model, and what is known of it.

    Attributes:
        directory: with the model's files, which were checked.
        decoding: how it decodes unless told otherwise.
        digest: of the files.
        run_id: the training run, where known.
        model_version: the version in the registry, where known.
    """

    directory: Path
    decoding: dict[str, Any]
    digest: str
    run_id: str | None
    model_version: str | None


@contextmanager
def model_files(model: str) -> Iterator[tuple[Path, Version | None]]:
    """Find a model by what a person calls it: its folder, and its version if it comes from the registry.

    Args:
        model: models:/NAME@ALIAS, models:/NAME/NUMBER, runs:/ID, or a path.

    Raises:
        PrecisError: there is no such model, or what the registry has is damaged.
    """
    if not model.startswith(SCHEMES):
        yield model_directory(model), None
        return
    from precis.registry.packaging import unpacked

    version = find_version(model)
    with unpacked(version.uri, digest=version.digest) as directory:
        yield directory, version


@contextmanager
def located(model: str) -> Iterator[Located]:
    """Find a model, and say what is known of it; see `model_files`.

    Raises:
        PrecisError: there is no such model, it is damaged, or nothing says how it decodes.
    """
    with model_files(model) as (directory, version):
        settings = read_text_settings(directory)[2]
        yield Located(
            directory,
            settings["decoding"] or project_decoding(directory),
            digest_of(directory),
            settings.get("run_id") if version is None else version.run_id,
            None if version is None else str(version.number),
        )


def open_summarizer(model: str, *, threads: int = 0) -> TextSummarizer:
    """What summarizes with a model that somebody names on a command line: also with an exported one.

    Args:
        model: see `located`; or a folder that `precis export` made.
        threads: of the model's arithmetic; 0: as many as there are cores.
    """
    path = None if model.startswith(SCHEMES) else model_directory(model)
    if path is not None and (path / "export.json").is_file():
        from precis.export.runtime import OnnxSummarizer

        return OnnxSummarizer.load(path, threads=threads)
    import torch

    from precis.api import Summarizer

    if threads:
        torch.set_num_threads(threads)
    return Summarizer.load(path or model)


def find_version(uri: str) -> Version:
    """The registered version that a URI names."""
    from precis.registry.resolve import resolve
    from precis.training.tracking import configure

    named = os.environ.get("MLFLOW_TRACKING_URI") or os.environ.get("MLFLOW_REGISTRY_URI")
    if not named and not Path("mlflow.db").is_file():
        raise PrecisError(
            f"{uri}: there is no mlflow.db in {Path.cwd()}, and MLFLOW_TRACKING_URI is not set: run this in the "
            "project's folder, or name the store"
        )
    return resolve(configure(), uri, _registered_name())


def _registered_name() -> str:
    if not Path("params.yaml").is_file():
        return DEFAULT_NAME
    from precis.params import load_params

    return load_params().registry.name


def model_directory(path: str | os.PathLike[str]) -> Path:
    """The folder with the model's files in what a person points at.

    Raises:
        PrecisError: there is no such folder.
    """
    directory = Path(path)
    if (directory / _PACKAGED).is_dir():
        return directory / _PACKAGED
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "not found"
        raise PrecisError(
            f"{path} {what}: expected models:/NAME@ALIAS, runs:/ID, or the folder of a trained model, which "
            "`dvc repro` makes in models/"
        )
    return directory


def digest_of(directory: Path) -> str:
    """The digest of a model's files, compared with the manifest if there is one."""
    from precis.manifest import MANIFEST, check_manifest, combined_digest, digests_of

    if (directory / MANIFEST).is_file():
        return check_manifest(directory)
    return combined_digest(digests_of(directory))


def project_decoding(directory: Path) -> dict[str, Any]:
    """The decoding parameters for a model of a working copy: those of its params.yaml.

    Raises:
        PrecisError: the folder lies in no working copy.
    """
    directory = directory.resolve()
    params_file = directory.parent.parent / "params.yaml"
    if directory.parent.name != "models" or not params_file.is_file():
        raise PrecisError(
            f"{directory} does not say how to decode: its text.json has no `decoding`, and it is not in models/ of a "
            "folder with a params.yaml. Load a registered version, which knows how it was evaluated"
        )
    from precis.params import load_params

    return load_params(params_file).decoding.model_dump(mode="json")
