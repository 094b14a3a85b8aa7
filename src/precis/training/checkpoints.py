"""Checkpoints that are whole or absent, and where training keeps them until it is done."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from precis.errors import PrecisError
from precis.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, with its digest, and renames it.

    Lightning's own writing passes through the folder for temporary files: on another file system a kill
    leaves a torn checkpoint, and a full disk destroys the one before.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save; weights and moments that are not finite are refused, so that no checkpoint ever holds them."""
        refuse_non_finite(checkpoint.get("state_dict", {}))
        for number, optimizer in enumerate(checkpoint.get("optimizer_states", [])):
            moments = {
                f"optimizer {number}, {name} of parameter {parameter}": value
                for parameter, values in optimizer["state"].items()
                for name, value in values.items()
                if isinstance(value, torch.Tensor)
            }
            refuse_non_finite(moments)
        path = Path(path)
        with atomic_path(path) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch does not say what the system said
                raise PrecisError(f"{path} cannot be written; is the disk full? ({error})") from error
            # the digest comes first: whatever has the checkpoint's name has one
            with atomic_path(_digest_path(path)) as digest_file:
                digest_file.write_text(_sha256(temporary), encoding="ascii")

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> Any:
        """Load tensors and plain values; anything that would run code is refused by torch."""
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its digest."""
        super().remove_checkpoint(path)
        _digest_path(Path(path)).unlink(missing_ok=True)


def newest_whole_checkpoint(directory: Path) -> tuple[Path | None, list[Path]]:
    """The last checkpoint whose digest is right, and the damaged ones that come after it.

    Their names are the numbers of updates: the clock may have been put back.
    """
    damaged: list[Path] = []
    for path in sorted(directory.glob("*.ckpt"), reverse=True):
        expected = _digest_path(path)
        if expected.is_file() and expected.read_text(encoding="ascii") == _sha256(path):
            return path, damaged
        damaged.append(path)
    return None, damaged


def remove_checkpoint_leftovers(directory: Path) -> None:
    """Remove what killed trainings left: files that are not whole, and digests without a checkpoint."""
    for path in directory.glob(".*.part"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in directory.glob("*.ckpt.sha256"):
        if not path.with_suffix("").exists():
            path.unlink(missing_ok=True)


def refuse_non_finite(weights: Mapping[str, torch.Tensor]) -> None:
    """Raise PrecisError naming the tensors that hold a NaN or an infinity."""
    names = [
        name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if names:
        raise PrecisError(f"NaN or infinity in the weights {', '.join(names)}: they are not saved")


def training_fingerprint(params: str, files: Iterable[Path]) -> str:
    """Digest of what a training comes from: parameters, data files, and the code of precis that is loaded.

    Two trainings with one fingerprint on one machine give the same bytes; a checkpoint of another is stale.

    Args:
        params: the parameters as text.
        files: the data files read, named relative to the repository's root.
    """
    digest = hashlib.sha256(params.encode())
    for path in sorted(files):
        digest.update(f"\n{path.as_posix()} {_sha256(path)}".encode())
    for name, module in sorted(sys.modules.items()):
        source = getattr(module, "__file__", None)
        if name.split(".")[0] == "precis" and source is not None:
            digest.update(f"\n{name} {_sha256(Path(source))}".encode())
    digest.update(f"\ntorch {torch.__version__}".encode())
    return digest.hexdigest()


def _digest_path(path: Path) -> Path:
    return path.with_suffix(path.suffix + ".sha256")


def _sha256(path: Path) -> str:
    with Path(os.fspath(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
