"""Batches of rows of like length, in an order that is a pure function of the seed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

# Sorting within this many batches leaves little padding, and enough chance in what meets in a batch.
WINDOW_BATCHES = 100


class TrainingSampler(Sampler[list[int]]):
    """Lists of row numbers for a whole training, one epoch after the other.

    In each epoch the rows are shuffled, cut into windows, sorted by length within each window and cut into
    batches; then the batches are shuffled. The order depends on seed and epoch only, so that a training
    that was cut off goes on with exactly the batches that it has not seen.

    Args:
        source_lengths: words of each row's source, (N,).
        target_lengths: words of each row's target, (N,).
        batch_size: rows in a batch; the last batch of an epoch may have fewer.
        first_batch: where it begins, counted from the start of the first epoch.
        num_batches: how many there are, in the middle of an epoch if need be.
        seed: with the epoch, decides the order.
    """

    def __init__(
        self,
        source_lengths: NDArray[np.int64],
        target_lengths: NDArray[np.int64],
        *,
        batch_size: int,
        first_batch: int,
        num_batches: int,
        seed: int,
    ) -> None:
        self._source_lengths = source_lengths
        self._target_lengths = target_lengths
        self._batch_size = batch_size
        self._first_batch = first_batch
        self._num_batches = num_batches
        self._seed = seed
        self.start_batch = 0

    def __len__(self) -> int:
        # of the whole training, also after a resume: Lightning counts the batches already done itself
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        per_epoch = batches_per_epoch(len(self._source_lengths), self._batch_size)
        batch_number = self._first_batch + self.start_batch
        end = self._first_batch + self._num_batches
        while batch_number < end:
            epoch, position = divmod(batch_number, per_epoch)
            for batch in self.batches_of_epoch(epoch)[position:]:
                if batch_number == end:
                    return
                yield batch
                batch_number += 1

    def batches_of_epoch(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch in order."""
        generator = np.random.default_rng([self._seed, epoch])
        order = generator.permutation(len(self._source_lengths))
        window_size = WINDOW_BATCHES * self._batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), window_size):
            window = order[start : start + window_size]
            batches += _cut(_by_length(window, self._source_lengths, self._target_lengths), self._batch_size)
        generator.shuffle(batches)
        return batches


class LengthSampler(Sampler[list[int]]):
    """Every row once, the longest first, the same each time: for validation."""

    def __init__(
        self, source_lengths: NDArray[np.int64], target_lengths: NDArray[np.int64], *, batch_size: int
    ) -> None:
        rows = np.arange(len(source_lengths))
        self._batches = _cut(_by_length(rows, source_lengths, target_lengths)[::-1], batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)


class WorkerSampler(Sampler[list[int]]):
    """One worker's rows of each batch: every so manieth of the batch's rows, which are sorted by length.

    So all workers see rows of like lengths, whatever their number, and together exactly the batches of one.
    A batch of fewer rows than there are workers leaves some of them without any.

    Args:
        batches: of all workers together.
        worker: its number, from 0.
        num_workers: how many there are.
    """

    def __init__(self, batches: Sampler[list[int]], *, worker: int, num_workers: int) -> None:
        self._batches = batches
        self._worker = worker
        self._num_workers = num_workers

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield batch[self._worker :: self._num_workers]


def batches_per_epoch(num_rows: int, batch_size: int) -> int:
    """Batches that hold every row once."""
    return math.ceil(num_rows / batch_size)


def _by_length(
    rows: NDArray[np.int64], source_lengths: NDArray[np.int64], target_lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    # the source costs more; among equal sources the target decides; lexsort is stable
    return rows[np.lexsort((target_lengths[rows], source_lengths[rows]))]


def _cut(rows: NDArray[np.int64], batch_size: int) -> list[list[int]]:
    return [rows[start : start + batch_size].tolist() for start in range(0, len(rows), batch_size)]
