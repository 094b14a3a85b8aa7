"""Versions of tiny models in a real registry."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tiny_model import DECODING, write_model

from precis.registry.packaging import log_package, staged
from precis.registry.versions import CHAMPION, DIGEST_TAG, make_version
from precis.training.tracking import configure, experiment_id

NAME = "precis"


class Registry:
    """An MLflow store in a folder; the environment must name it already."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = configure(folder)
        self.models: dict[int, Path] = {}

    def add(self, seed: int, *, is_sick: bool = False) -> int:
        """Register a version with random weights, or with weights that are no numbers; returns its number."""
        directory = write_model(self.folder / f"model-{seed}-{is_sick}", "pointer", seed)
        if is_sick:
            weights = load_file(directory / "model.safetensors")
            sick = {name: torch.full_like(value, torch.nan) for name, value in weights.items()}
            save_file(sick, directory / "model.safetensors")
        with staged(directory, decoding=DECODING) as (package, digest):
            experiment = experiment_id(self.client, "service")
            uri = log_package(package, name="pointer", digest=digest, run_id=None, experiment_id=experiment)
            made = make_version(self.client, NAME, source=uri, run_id=None, tags={DIGEST_TAG: digest})
        self.models[made.number] = directory
        return made.number

    def damage(self, number: int) -> None:
        """Flip a bit in the weights of a registered version."""
        from mlflow.artifacts import download_artifacts

        where = self.client.get_model_version_download_uri(NAME, str(number))
        for path in Path(download_artifacts(where)).rglob("model.safetensors"):
            data = bytearray(path.read_bytes())
            data[-5] ^= 1
            path.chmod(0o644)
            path.write_bytes(data)

    def promote(self, number: int) -> None:
        self.client.set_registered_model_alias(NAME, CHAMPION, str(number))
