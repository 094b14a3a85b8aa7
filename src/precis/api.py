"""What `from precis import …` gives: summarizers by registry URI or path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from typing_extensions import override

from precis.errors import PrecisError
from precis.serving.summarizer import Summarizer as _Summarizer

if TYPE_CHECKING:
    from precis.registry.versions import Version

DEFAULT_NAME = "precis"  # of the registered model, where neither a URI nor params.yaml says
_SCHEMES = ("models:/", "runs:/")
_PACKAGED = Path("artifacts/model")  # inside of what MLflow made of a model


class Summarizer(_Summarizer):
    """A trained model that turns texts into summaries; it may be called from several threads.

        >>> summarizer = Summarizer.load("models:/precis@champion")
        >>> summarizer.summarize("A long text …").text

    It decodes as the model was evaluated, unless a call says otherwise.
    """

    @classmethod
    @override
    def load(
        cls,
        directory: str | os.PathLike[str],
        *,
        run_id: str | None = None,
        model_version: str | None = None,
        digest: str | None = None,
    ) -> Self:
        """Load a model, after checking its files.

        Args:
            directory: models:/NAME@ALIAS, models:/NAME/NUMBER or runs:/ID (of a registered model), looked up in
                the store that MLFLOW_TRACKING_URI names, or mlflow.db in the working folder; or a path: of a
                trained model, of a registered one that was downloaded, or of the `model` folder in it.
            run_id: the training run; where it is not given, what registry or folder say.
            model_version: the version, where the registry is not asked.
            digest: of the files, if it is known already; None: computed.

        Raises:
            PrecisError: there is no such model, it is damaged, or a folder does not say how to decode.
        """
        name = os.fspath(directory)
        if name.startswith(_SCHEMES):
            from precis.registry.packaging import unpacked

            version = find_version(name)
            with unpacked(version.uri, digest=version.digest) as unpacked_to:
                return super().load(
                    unpacked_to,
                    run_id=run_id or version.run_id,
                    model_version=model_version or str(version.number),
                    digest=version.digest,
                )
        path = model_directory(name)
        loaded = super().load(
            path, run_id=run_id, model_version=model_version, digest=digest or digest_of(path)
        )
        if not loaded.decoding:
            loaded.decoding = project_decoding(path)
        return loaded


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
    from precis.registry.manifest import MANIFEST, check_manifest, combined_digest, digests_of

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
