"""What computes, in which precision, and how exactly it repeats itself: decided here and nowhere else.

A GPU is used where there is one (CUDA; Apple's has no 64-bit sums), else the processor. On a processor the same
training gives the same bytes. On a GPU it does as far as each operation has a form that repeats itself: torch names
those that have none in a warning.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import torch

from precis.errors import PrecisError
from precis.processes import num_cores


def accelerator() -> Literal["cuda", "cpu"]:
    """What computes, as Lightning calls it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def process_group_backend(on_gpu: bool) -> str:
    """How workers exchange gradients; what they agree on besides never waits for a GPU."""
    return "cpu:gloo,cuda:nccl" if on_gpu else "gloo"


def lightning_settings(precision: Literal["full", "bfloat16"]) -> dict[str, Any]:
    """What Lightning's Trainer is told of the device.

    Args:
        precision: full, or bfloat16 for the products, by autocast; weights, moments and losses stay in float32.
    """
    return {
        "accelerator": accelerator(),
        "precision": "bf16-mixed" if precision == "bfloat16" else "32-true",
        "deterministic": "warn" if accelerator() == "cuda" else True,
    }


def prepare_device(threads: int) -> None:
    """Set the threads of torch in this process, and have it repeat itself.

    Args:
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    if accelerator() == "cuda":  # cuBLAS repeats itself with this only, and reads it when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=accelerator() == "cuda")


def check_devices(wanted: int, threads: int) -> str | None:
    """See that this machine has what so many workers on it need.

    Args:
        wanted: workers on this machine.
        threads: of each.

    Returns:
        what makes them slow, to be told; None if nothing does.

    Raises:
        PrecisError: there are too few GPUs.
    """
    if accelerator() == "cuda":
        found = torch.cuda.device_count()
        if wanted > found:
            raise PrecisError(
                f"train.devices is {wanted}, and this machine has {found} GPUs: take fewer, or hide the GPUs "
                "(CUDA_VISIBLE_DEVICES=) to train on processors"
            )
        return None
    cores = num_cores()
    if wanted > 1 and wanted * threads > cores:
        return (
            f"train.devices {wanted} x train.threads {threads} want {wanted * threads} cores, and this machine has "
            f"{cores}: training is slower than it could be"
        )
    return None
