"""Corpora that do not fit the disk: rows are taken as they come, mixed in a buffer, and kept in parts.

Shards are read one after the other in an order drawn from the seed; each row that comes takes a random place in the
buffer, and the row that was there goes out. What is random is a function of the seed and the row's number alone. After
each part the rows in the buffer and the place in the shard are written, too: a killed run goes on after its last part,
and ends with the bytes of one that was not killed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from precis.corpora.article import (
    RAW_SCHEMA,
    SPLITS,
    Article,
    batches,
    parquet_writer,
    read_batches,
    stable_hash,
)
from precis.files import atomic_path

log = logging.getLogger(__name__)

STREAM_SCHEMA = pa.schema([*RAW_SCHEMA, pa.field("split", pa.string())])
_STATE = "state.json"


class Shard(Protocol):
    """A piece of a corpus that is read from its beginning.

    Attributes:
        name: by which it is known, the same at every run.
        split: that it holds; None: to be split.
        version: what changes when its content does.
        digest: of its content, the same wherever it lies; None if nobody knows one.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def split(self) -> str | None: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def digest(self) -> str | None: ...  # noqa: D102

    def read(self) -> Iterator[Article]:
        """Its rows, in their order."""


@dataclass(frozen=True)
class Buffer:
    """How rows are mixed.

    Attributes:
        rows: that are held in memory; 1 leaves them in the order of the shards.
        seed: of the order of the shards, and of the rows'.
    """

    rows: int
    seed: int


@dataclass
class _State:
    """Where a stream is: after so many parts, in which split, in which of its shards, after which row."""

    parts: int = 0
    split: int = 0
    shard: int = 0
    row: int = 0
    moved: int = 0  # rows of the split that went through the buffer
    taken: dict[str, int] = field(default_factory=dict)  # rows by split, as the shards name it


class StreamedParts:
    """The rows of a stream in a folder that outlives a kill.

    Args:
        folder: for what is kept between runs; emptied if it is of another corpus, or of other settings.
        shards: all of them.
        buffer: how rows are mixed.
        quotas: how many rows to take of the shards of each split, None for those that are to be split; a split that is
            not in it is taken whole.
    """

    def __init__(
        self, folder: Path, shards: list[Shard], buffer: Buffer, quotas: Mapping[str | None, int]
    ) -> None:
        self._buffer = buffer
        self._quotas = quotas
        known = {split: [shard for shard in shards if shard.split == split] for split in (*SPLITS, None)}
        self._splits = {
            split: sorted(found, key=lambda shard: stable_hash(f"{buffer.seed}/{shard.name}", "shards"))
            for split, found in known.items()
            if found
        }
        told = {
            "shards": sorted((shard.name, shard.split or "", shard.version) for shard in shards),
            "buffer": asdict(buffer),
            "quotas": sorted((split or "", quota) for split, quota in quotas.items()),
        }
        self._folder = folder / hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
        for other in folder.glob("*"):
            if other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)

    def fill(self) -> list[Path]:
        """Take what is not taken yet; gives the parts in their order."""
        state, held = self._restore()
        names = list(self._splits)
        while state.split < len(names):
            self._take_split(names[state.split], state, held)
            state.split, state.shard, state.row, state.moved = state.split + 1, 0, 0, 0
            self._keep(state, [], [])
        return [self._part(number) for number in range(state.parts)]

    def clear(self) -> None:
        """Forget everything: the rows are elsewhere now."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):
            self._folder.parent.rmdir()

    def _take_split(self, split: str | None, state: _State, held: list[Article]) -> None:
        """Bring the rows of one split through the buffer, and keep a part whenever as many have left it as it holds."""
        name = split or ""
        left = self._quotas.get(split)
        if left is not None:
            left -= state.taken.get(name, 0)
        out: list[Article] = []

        def take(row: Article) -> None:
            out.append(row)
            state.taken[name] = state.taken.get(name, 0) + 1
            state.moved += 1

        for article in self._rows(split, state):
            if left is not None and len(out) >= left:
                break
            if len(held) < self._buffer.rows:
                held.append(article)
                continue
            place = self._draw(name, state.moved, len(held))
            take(held[place])
            held[place] = article
            if len(out) == self._buffer.rows:
                left = left - len(out) if left is not None else None
                state.parts += 1
                self._keep(state, out, held)
                log.info("%s", self._progress(split, state))
                out = []
        while held and (left is None or len(out) < left):
            place = self._draw(name, state.moved, len(held))
            held[place], held[-1] = held[-1], held[place]
            take(held.pop())
        held.clear()
        if out:
            state.parts += 1
            self._write(self._part(state.parts - 1), out)

    def _rows(self, split: str | None, state: _State) -> Iterator[Article]:
        """The rows of a split's shards from where the state is; counts them in it."""
        shards = self._splits[split]
        while state.shard < len(shards):
            for number, article in enumerate(shards[state.shard].read()):
                if number < state.row:
                    continue  # what comes first in a shard is fetched again
                state.row += 1
                article.split = split
                yield article
            state.shard, state.row = state.shard + 1, 0

    def _draw(self, split: str, number: int, places: int) -> int:
        return stable_hash(f"{self._buffer.seed}/{split}/{number}", "buffer") % places

    def _progress(self, split: str | None, state: _State) -> str:
        of = f" of {split}" if split is not None else ""
        shards = len(self._splits[split])
        return f"{sum(state.taken.values()):,} rows; shard {min(state.shard + 1, shards)} of {shards}{of}"

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:06}.parquet"

    def _held(self, parts: int) -> Path:
        return self._folder / f"buffer-{parts:06}.parquet"

    def _keep(self, state: _State, out: list[Article], held: list[Article]) -> None:
        """Write a part and all that is needed to go on after it; the state, which names them, comes last."""
        if out:
            self._write(self._part(state.parts - 1), out)
        self._write(self._held(state.parts), held)
        with atomic_path(self._folder / _STATE) as temporary:
            temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
        for old in self._folder.glob("buffer-*.parquet"):
            if old != self._held(state.parts):
                old.unlink()

    def _restore(self) -> tuple[_State, list[Article]]:
        path = self._folder / _STATE
        for leftover in self._folder.glob(".*.part"):
            leftover.unlink()
        if not path.is_file():
            return _State(), []
        state = _State(**json.loads(path.read_text(encoding="utf-8")))
        held = [
            Article(**row) for batch in read_batches(self._held(state.parts)) for row in batch.to_pylist()
        ]
        log.info("going on after %s rows of a run that was cut off", f"{sum(state.taken.values()):,}")
        return state, held

    def _write(self, path: Path, rows: list[Article]) -> None:
        with atomic_path(path) as temporary, parquet_writer(temporary, STREAM_SCHEMA) as writer:
            for batch in batches(rows, STREAM_SCHEMA):
                writer.write_batch(batch)


def read_parts(parts: list[Path]) -> Iterator[Article]:
    """The rows of parts, each with the split of its shard."""
    for part in parts:
        for batch in read_batches(part):
            for row in batch.to_pylist():
                yield Article(**row)


def num_rows(parts: list[Path]) -> int:
    """How many rows parts have."""
    return sum(pq.read_metadata(part).num_rows for part in parts)


def quotas(
    shards: list[Shard], max_rows: int | None, validation_share: float, test_share: float
) -> dict[str | None, int]:
    """How many rows to take of each split, so that there are `max_rows` in all.

    Splits that the corpus comes with get their share: nobody knows how large they are before all is read. The rest is
    for training, or is to be split.
    """
    if max_rows is None:
        return {}
    given = {shard.split for shard in shards}
    if None in given:
        return {None: max_rows}
    shares = {"validation": validation_share, "test": test_share}
    found: dict[str | None, int] = {
        split: round(max_rows * share) for split, share in shares.items() if split in given
    }
    found["train"] = max_rows - sum(found.values())
    return found
