"""Batches of rows of like length, in an order that is a pure function of seed and epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

# Sorting within this many batches leaves little padding, and enough chance in what meets in a batch.
WINDOW_BATCHES = 100


class BucketSampler(Sampler[list[int]]):
    """Lists of row numbers, every row once an epoch.

    The rows are shuffled, cut into windows, sorted by length within each window and cut into batches;
    then the batches are shuffled. Where training stops in an epoch, `start_batch` lets it go on.

    Args:
        source_lengths: words of each row's source, (N,).
        target_lengths: words of each row's target, (N,).
        batch_size: rows in a batch.
        shuffle: False gives the rows by length, the longest first, the same in each epoch.
        seed: with the epoch, decides the order.
    """

    def __init__(
        self,
        source_lengths: NDArray[np.int64],
        target_lengths: NDArray[np.int64],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
    ) -> None:
        self._source_lengths = source_lengths
        self._target_lengths = target_lengths
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self.epoch = 0
        self.start_batch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next (Lightning calls this)."""
        self.epoch = epoch

    def __len__(self) -> int:
        # the length of a whole epoch, also after a resume: Lightning counts the batches already done itself
        return math.ceil(len(self._source_lengths) / self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self.batches_of_epoch(self.epoch)
        start, self.start_batch = self.start_batch, 0
        return iter(batches[start:])

    def batches_of_epoch(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch in order."""
        num_rows = len(self._source_lengths)
        if not self._shuffle:
            return self._cut(self._by_length(np.arange(num_rows))[::-1])
        generator = np.random.default_rng([self._seed, epoch])
        order = generator.permutation(num_rows)
        window_size = WINDOW_BATCHES * self._batch_size
        batches: list[list[int]] = []
        for start in range(0, num_rows, window_size):
            batches += self._cut(self._by_length(order[start : start + window_size]))
        generator.shuffle(batches)
        return batches

    def _by_length(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # the source costs more; among equal sources the target decides; lexsort is stable
        return rows[np.lexsort((self._target_lengths[rows], self._source_lengths[rows]))]

    def _cut(self, rows: NDArray[np.int64]) -> list[list[int]]:
        return [
            rows[start : start + self._batch_size].tolist() for start in range(0, len(rows), self._batch_size)
        ]
