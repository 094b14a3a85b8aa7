"""The encoded corpus as Lightning takes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from precis.batches.batch import Batch, make_batch
from precis.batches.bucket_sampler import BucketSampler
from precis.batches.encoded import EncodedCorpus
from precis.errors import PrecisError


class _Batches(Dataset[Batch]):
    """Batches by their row numbers: the sampler's lists are the keys, so that no per-row objects travel."""

    def __init__(self, corpus: EncodedCorpus, target_vocabulary_size: int) -> None:
        self._corpus = corpus
        self._target_vocabulary_size = target_vocabulary_size

    def __getitem__(self, row_numbers: list[int]) -> Batch:  # type: ignore[override]
        rows = [self._corpus[row] for row in row_numbers]
        return make_batch(row_numbers, rows, self._target_vocabulary_size)


class EncodedDataModule(pl.LightningDataModule):
    """Training and validation batches from data/encoded.

    Raises:
        PrecisError: a split is missing or has no rows.
    """

    def __init__(self, directory: Path, *, target_vocabulary_size: int, batch_size: int, seed: int) -> None:
        super().__init__()
        self.training = _open(directory / "train.arrow")
        self.validation = _open(directory / "validation.arrow")
        self._target_vocabulary_size = target_vocabulary_size
        self._seed = seed
        self.training_sampler = BucketSampler(
            self.training.source_lengths,
            self.training.target_lengths,
            batch_size=batch_size,
            shuffle=True,
            seed=seed,
        )
        self._validation_sampler = BucketSampler(
            self.validation.source_lengths,
            self.validation.target_lengths,
            batch_size=batch_size,
            shuffle=False,
            seed=seed,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of like length in an order that seed and epoch decide."""
        return self._loader(self.training, self.training_sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every validation row once, the longest first: what does not fit into memory shows at once."""
        return self._loader(self.validation, self._validation_sampler)

    def validation_batches(self) -> Iterator[Batch]:
        """The validation batches without Lightning."""
        yield from self.val_dataloader()

    def _loader(self, corpus: EncodedCorpus, sampler: BucketSampler) -> DataLoader[Batch]:
        return DataLoader(
            _Batches(corpus, self._target_vocabulary_size),
            sampler=sampler,
            batch_size=None,
            # its own generator, or it would draw from the global one at the start of an epoch
            generator=torch.Generator().manual_seed(self._seed),
        )


def _open(path: Path) -> EncodedCorpus:
    corpus = EncodedCorpus(path)
    if len(corpus) == 0:
        raise PrecisError(f"{path} has no rows: see reports/data_checks.json for what became of them")
    return corpus
