"""The processes that train one model together: which of them this is, and what they tell one another.

Every worker runs the same program on its own rows. Only the first one writes files, logs and the record. A training
of one process has no others to talk to: everything here then costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from precis.errors import PrecisError, UnreachableError

Value = TypeVar("Value")

_REASON = re.compile(r"Connection (closed|reset|refused)( by peer)?|Broken pipe|[Tt]imed? ?out\b[^\n]*")
_LOST = re.compile(r"gloo|NCCL|[Ss]ocket")


class WorkerLostError(UnreachableError):
    """Another worker of this training has ended; the next attempt goes on from the last checkpoint."""


def is_distributed() -> bool:
    """Whether this process is a worker among others, even if it is the only one."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    """This worker's number, from 0."""
    return torch.distributed.get_rank() if is_distributed() else 0


def num_workers() -> int:
    """How many there are."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def is_first() -> bool:
    """Whether this worker is the one that writes."""
    return rank() == 0


def summed(values: Tensor) -> Tensor:
    """The sum of the workers' tensors, the same on each of them; what is given is overwritten."""
    if is_distributed():
        torch.distributed.all_reduce(values)
    return values


def highest(values: list[int]) -> list[int]:
    """The largest of the workers' numbers at each place."""
    if not is_distributed():
        return values
    tensor = torch.tensor(values)
    torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
    return [int(value) for value in tensor]


def gathered(value: Value) -> list[Value]:
    """The values of all workers, in their order, on each of them."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * num_workers()
    torch.distributed.all_gather_object(values, value)
    return values


def from_first(function: Callable[[], Value]) -> Value:
    """Call a function on the first worker alone; all get what it returns.

    Raises:
        PrecisError: the function did, see `told_by_first`.
    """
    if not is_distributed():
        return function()
    answer: list[Any] = [None, None]
    cause: PrecisError | None = None
    if is_first():
        try:
            answer[0] = function()
        except PrecisError as error:
            cause = error
            answer[1] = str(error)
    torch.distributed.broadcast_object_list(answer)
    if answer[1] is not None:
        raise told_by_first(cause or WorkerLostError(answer[1])) from cause
    result: Value = answer[0]
    return result


def told_by_first(error: PrecisError) -> PrecisError:
    """What a worker raises when all of them know of an error: the first one tells it, the others end in silence."""
    return error if is_first() else WorkerLostError(str(error))


@contextmanager
def telling_of_lost_workers() -> Iterator[None]:
    """Raise a WorkerLostError where a worker finds that it cannot reach another any more."""
    try:
        yield
    except RuntimeError as error:
        found = _REASON.search(str(error)) or _LOST.search(str(error))
        is_lost = found is not None or isinstance(error, torch.distributed.DistError)
        if not is_distributed() or num_workers() == 1 or not is_lost:
            raise
        reason = found[0] if found is not None else type(error).__name__
        raise WorkerLostError(
            f"a worker of this training was lost ({reason}): what it said is above, or in the log of its machine; run "
            "this again, and training goes on from its last checkpoint"
        ) from error
