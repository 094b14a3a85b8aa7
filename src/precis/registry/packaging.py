"""A trained model as an MLflow model, and back: safetensors, JSON and word lists, never a pickle.

The MLflow model holds the model directory as it is, a manifest of SHA-256 digests and a few lines of code
that call the installed precis. The package's own code is not copied into it (`code_paths`): a registered
model would otherwise bring code that runs on loading, and two versions loaded by one process would fight
over the module names.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from precis.errors import PrecisError
from precis.files import read_ordinary
from precis.manifest import (
    MANIFEST,
    check_manifest,
    file_digest,
    write_manifest,
)
from precis.serving.summary import SERVED_PARAMETERS

log = logging.getLogger(__name__)

# What serving a model imports, pinned to what is installed. Naming the packages spares MLflow a guess that
# takes 12 s. precis itself is not on a public index: install it beside these.
_REQUIREMENTS = ("mlflow", "torch", "safetensors", "numpy", "regex", "pydantic")
_ARTIFACT = "model"
_CODE = Path(__file__).with_name("pyfunc_model.py")
_LOADER = "mlflow.pyfunc.loaders.code_model"
_LARGEST_MLMODEL = 1_000_000  # bytes
_PACKAGE_FILES = {
    "MLmodel", "__pycache__", "artifacts", "conda.yaml", "input_example.json", "lineage.json", "python_env.yaml",
    "pyfunc_model.py", "registered_model_meta", "requirements.txt", "serving_input_example.json",
    "README.md", "model_card.md",
}  # fmt: skip
# documents, and the parameters that a request may carry, with what they are without one
INPUT_EXAMPLE = (
    ["Return the number of words in a text. Punctuation marks and white space are not counted."],
    SERVED_PARAMETERS,
)


@contextmanager
def staged(directory: str | os.PathLike[str], *, decoding: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """A copy of a model directory as it will be registered, and its digest.

    Args:
        directory: what `precis.serving.summarizer.Summarizer.load` reads.
        decoding: the settings that the model was evaluated with; the served model uses the same.
    """
    with tempfile.TemporaryDirectory(prefix="precis-package-") as temporary:
        if (Path(directory) / MANIFEST).exists():
            check_manifest(directory)  # a damaged model would get a manifest that says it is whole
        copy = Path(temporary) / _ARTIFACT
        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("__pycache__", MANIFEST))
        text_file = copy / "text.json"
        try:
            text = json.loads(text_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PrecisError(
                f"{directory} is no model directory ({error}): run `dvc repro train`"
            ) from error
        text_file.write_text(
            json.dumps({**text, "decoding": decoding}, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
        yield copy, write_manifest(copy)


def log_package(directory: Path, *, name: str, digest: str, run_id: str | None, experiment_id: str) -> str:
    """Make an MLflow model of what `staged` gave, belonging to the run that trained it.

    The caller has pointed MLflow at its tracking server. The run itself is not reopened: its status and
    end time stay.

    Args:
        directory: with its manifest.
        name: what MLflow shows, for instance "pointer".
        digest: of the directory.
        run_id: the training run; None if the record no longer has it.
        experiment_id: where MLflow shows the model.

    Returns:
        the model's URI.
    """
    import mlflow
    import mlflow.pyfunc
    from mlflow.models import Model

    mlflow.set_experiment(experiment_id=experiment_id)
    info = Model.log(
        artifact_path=None,
        name=name,
        flavor=mlflow.pyfunc,
        run_id=run_id,
        python_model=str(_CODE),
        artifacts={_ARTIFACT: str(directory)},
        input_example=INPUT_EXAMPLE,
        pip_requirements=[f"{package}=={version(package).split('+')[0]}" for package in _REQUIREMENTS],
        metadata={"precis_version": version("precis"), "precis_digest": digest},
        tags={"precis.digest": digest},
    )
    log.info("packaged %s as %s", name, info.model_uri)
    return str(info.model_uri)


@contextmanager
def unpacked(uri: str, *, digest: str | None = None) -> Iterator[Path]:
    """The model directory inside an MLflow model, checked file by file; nothing of it is executed.

    MLflow itself would run the package's code. A package with other code than `log_package` puts into it is refused,
    although here it would not run either.

    Args:
        uri: for instance models:/precis@champion.
        digest: what the registry recorded; None checks against the package's own manifest alone.

    Raises:
        PrecisError: there is no such model, it brings code of its own, or its files are not those that were
            registered.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="precis-model-") as temporary:
        try:
            download_artifacts(artifact_uri=uri, dst_path=temporary)
        except (MlflowException, OSError) as error:
            raise PrecisError(f"{uri} cannot be read: {error}") from error
        _refuse_foreign_code(Path(temporary), uri)
        directory = Path(temporary) / "artifacts" / _ARTIFACT
        if not directory.is_dir():
            raise PrecisError(f"{uri} holds no precis model (no artifacts/{_ARTIFACT} in it)")
        found = check_manifest(directory)
        if digest is not None and found != digest:
            raise PrecisError(
                f"{uri} is not what was registered: its files' digest is {found}, the registry says {digest}"
            )
        yield directory


def code_digest() -> str:
    """SHA-256 of the code that `log_package` puts into a package."""
    return file_digest(_CODE)


def packaged_code_digest(uri: str) -> str | None:
    """SHA-256 of the code in a package, which MLflow would run and precis does not; None if it has none."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="precis-code-") as temporary:
        try:
            return file_digest(download_artifacts(artifact_uri=f"{uri}/{_CODE.name}", dst_path=temporary))
        except (MlflowException, OSError):
            return None


def _refuse_foreign_code(package: Path, uri: str) -> None:
    """See that MLflow would run nothing but the few lines of `pyfunc_model.py`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = package / "MLmodel"
    try:
        about = YAML(typ="safe", pure=True).load(read_ordinary(path, _LARGEST_MLMODEL).decode("utf-8"))
        flavors = dict(about["flavors"])
        flavor = dict(flavors["python_function"])
    except FileNotFoundError as error:
        raise PrecisError(f"{uri} holds no precis model (no MLmodel in it)") from error
    except (YAMLError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise PrecisError(f"{uri}: its MLmodel is damaged or no precis model's") from error
    problems = [f"the flavor {name}" for name in sorted(flavors) if name != "python_function"]
    if flavor.get("loader_module") != _LOADER:
        problems.append(f"loader_module {str(flavor.get('loader_module'))[:100]!r}")
    problems += [key for key in ("code", "data", "python_model") if flavor.get(key) is not None]
    if Path(str(flavor.get("model_code_path"))).name != _CODE.name:
        problems.append(f"model_code_path {str(flavor.get('model_code_path'))[:100]!r}")
    strange = sorted(path.name for path in package.iterdir() if path.name not in _PACKAGE_FILES)
    problems += [f"the file {name[:100]}" for name in strange]
    if problems:
        raise PrecisError(
            f"{uri} is not used: it has {', '.join(problems)}, which no model of precis has. MLflow would run code "
            "from it: serve it with nothing before you know where it comes from"
        )
