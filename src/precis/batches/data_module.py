"""The encoded corpus as Lightning takes it."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from precis.batches.batch import Batch, make_batch, without_rows
from precis.batches.bucket_sampler import LengthSampler, TrainingSampler, WorkerSampler, batches_per_epoch
from precis.batches.encoded import EncodedCorpus
from precis.errors import PrecisError


class _Batches(Dataset[Batch]):
    """Batches by their row numbers: the sampler's lists are the keys, so that no per-row objects travel."""

    def __init__(self, corpus: EncodedCorpus, target_vocabulary_size: int) -> None:
        self._corpus = corpus
        self._target_vocabulary_size = target_vocabulary_size

    def __getitem__(self, row_numbers: list[int]) -> Batch:
        if not row_numbers:  # the share of a worker for which the batch was too small
            return without_rows(make_batch([0], [self._corpus[0]], self._target_vocabulary_size))
        rows = [self._corpus[row] for row in row_numbers]
        return make_batch(row_numbers, rows, self._target_vocabulary_size)


class EncodedDataModule(pl.LightningDataModule):
    """Training and validation batches from data/encoded.

    To Lightning the whole training is one epoch of `num_updates` batches: then stopping and going on is
    one number, with no boundary to get wrong. `updates_per_epoch` says how many see every row once.

    Args:
        directory: holds an Arrow file for each split.
        target_vocabulary_size: V.
        batch_size: rows in a batch, of all workers together.
        seed: decides the order of the rows.
        training: the split that is trained on.

    Raises:
        PrecisError: a split is missing or has no rows.
    """

    def __init__(
        self,
        directory: Path,
        *,
        target_vocabulary_size: int,
        batch_size: int,
        seed: int,
        training: str = "train",
    ) -> None:
        super().__init__()
        self.training = _open(directory / f"{training}.arrow")
        self.validation = _open(directory / "validation.arrow")
        self.updates_per_epoch = batches_per_epoch(len(self.training), batch_size)
        self._target_vocabulary_size = target_vocabulary_size
        self._batch_size = batch_size
        self._seed = seed
        self._sampler: TrainingSampler | None = None
        self._worker, self._num_workers = 0, 1

    def plan(self, num_updates: int, *, first_update: int = 0, worker: int = 0, num_workers: int = 1) -> None:
        """Say what this process is to read; before Lightning asks for batches.

        Args:
            num_updates: how long the training is.
            first_update: updates that came before it.
            worker: whose rows of each batch these are.
            num_workers: who share a batch.
        """
        self._worker, self._num_workers = worker, num_workers
        self._sampler = TrainingSampler(
            self.training.source_lengths,
            self.training.target_lengths,
            batch_size=self._batch_size,
            first_batch=first_update,
            num_batches=num_updates,
            seed=self._seed,
        )

    def start_at(self, update: int) -> None:
        """Leave out the batches of the updates that a checkpoint already has."""
        assert self._sampler is not None, "plan() comes first"
        self._sampler.start_batch = update

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of like length in an order that the seed decides."""
        assert self._sampler is not None, "plan() comes first"
        return self._loader(self.training, self._sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation row once, the longest first: what does not fit into memory shows at once."""
        sampler = LengthSampler(
            self.validation.source_lengths, self.validation.target_lengths, batch_size=self._batch_size
        )
        return self._loader(self.validation, sampler)

    def _loader(self, corpus: EncodedCorpus, sampler: Sampler[list[int]]) -> DataLoader[Batch]:
        if self._num_workers > 1:
            sampler = WorkerSampler(sampler, worker=self._worker, num_workers=self._num_workers)
        return DataLoader(
            _Batches(corpus, self._target_vocabulary_size),
            sampler=sampler,
            batch_size=None,
            # its own generator, or it would draw from the global one when it starts
            generator=torch.Generator().manual_seed(self._seed),
        )


def _open(path: Path) -> EncodedCorpus:
    corpus = EncodedCorpus(path)
    if len(corpus) == 0:
        raise PrecisError(f"{path} has no rows: see reports/data_checks.json for what became of them")
    return corpus
