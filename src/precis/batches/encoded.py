"""The encoded corpus on disk: one Arrow file per split, memory-mapped for reading."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from precis.errors import PrecisError
from precis.files import atomic_path

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("source_extended_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("source_oovs", pa.list_(pa.string()), nullable=False),
        pa.field("target_ids", pa.list_(pa.int32()), nullable=False),
    ]
)
MAX_BATCH_ROWS = 10_000


def write_encoded(batches: Iterable[pa.RecordBatch], path: str | os.PathLike[str]) -> int:
    """Write record batches of `SCHEMA` as an Arrow file, whole or not at all; returns the number of rows."""
    num_rows = 0
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        for batch in batches:
            for start in range(0, batch.num_rows, MAX_BATCH_ROWS):
                writer.write_batch(batch.slice(start, MAX_BATCH_ROWS))
            num_rows += batch.num_rows
    return num_rows


@dataclass(frozen=True)
class EncodedRow:
    """One pair: views into the memory-mapped file, nothing copied."""

    source_ids: NDArray[np.int32]
    source_extended_ids: NDArray[np.int32]
    target_ids: NDArray[np.int32]
    num_oovs: int


class EncodedCorpus:
    """Rows of an encoded split by number; the file stays on disk and is mapped into memory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        if not path.is_file():
            raise PrecisError(f"{path} not found: run `dvc repro encode` first")
        try:
            with pa.memory_map(str(path)) as mapped:
                table = pa.ipc.open_file(mapped).read_all()
        except pa.ArrowInvalid as error:
            raise PrecisError(
                f"{path} is no Arrow file: {error}; remove it and run `dvc repro encode`"
            ) from error
        if table.schema != SCHEMA:
            raise PrecisError(
                f"{path} has other columns than this version reads: run `dvc repro --force encode`"
            )
        self._table = table
        self._chunks = [_Chunk(batch) for batch in table.to_batches()]
        sizes = [chunk.num_rows for chunk in self._chunks]
        self._first_rows = np.cumsum([0, *sizes])
        self.source_lengths = _concatenate([np.diff(chunk.source_offsets) for chunk in self._chunks])
        self.target_lengths = _concatenate([np.diff(chunk.target_offsets) for chunk in self._chunks])

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, row: int) -> EncodedRow:
        if not 0 <= row < len(self):
            raise IndexError(row)
        chunk_number = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        return self._chunks[chunk_number].row(row - int(self._first_rows[chunk_number]))

    def row_id(self, row: int) -> str:
        """The id that the corpus gives to this row."""
        return str(self._table.column("id")[row].as_py())

    def source_oovs(self, row: int) -> list[str]:
        """The words of extended ids V, V+1, … of this row's source."""
        return list(self._table.column("source_oovs")[row].as_py())


class _Chunk:
    """A record batch as flat arrays with offsets."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.num_rows = batch.num_rows
        self.source_offsets, self._source_ids = _flat(batch, "source_ids")
        self._extended_offsets, self._source_extended_ids = _flat(batch, "source_extended_ids")
        self.target_offsets, self._target_ids = _flat(batch, "target_ids")
        self._oov_offsets = batch.column("source_oovs").offsets.to_numpy()

    def row(self, row: int) -> EncodedRow:
        source = slice(self.source_offsets[row], self.source_offsets[row + 1])
        extended = slice(self._extended_offsets[row], self._extended_offsets[row + 1])
        target = slice(self.target_offsets[row], self.target_offsets[row + 1])
        return EncodedRow(
            source_ids=self._source_ids[source],
            source_extended_ids=self._source_extended_ids[extended],
            target_ids=self._target_ids[target],
            num_oovs=int(self._oov_offsets[row + 1] - self._oov_offsets[row]),
        )


def _flat(batch: pa.RecordBatch, name: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    column = batch.column(name)
    # `values` ignores the slice that a batch may be of its buffers, and so do the offsets: they fit together
    return column.offsets.to_numpy(), column.values.to_numpy()


def _concatenate(lengths: list[NDArray[np.int32]]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(0, dtype=np.int64), *lengths]).astype(np.int64)
