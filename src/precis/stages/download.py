"""Fetch the corpus, map its columns, and split it by group."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from precis.corpora.article import (
    MAX_BATCH_ROWS,
    RAW_SCHEMA,
    SPLITS,
    Article,
    batches,
    parquet_writer,
    read_batches,
    stable_hash,
)
from precis.corpora.columns import Columns
from precis.corpora.docstrings import Wanted, read_docstrings
from precis.corpora.files import FilesReader, Limits, Retries, file_shards
from precis.corpora.hub import HubReader
from precis.corpora.splits import Shares, group_of, pick, split_by_hash, split_by_time
from precis.corpora.streaming import Buffer, Shard, StreamedParts, quotas, read_parts
from precis.errors import PrecisError
from precis.files import atomic_directory, remove_leftovers
from precis.params import CorpusParams, load_params
from precis.stages.entry import run_stage

log = logging.getLogger(__name__)

RAW = Path("data/raw")
STREAM = Path(".work/stream")  # outside of DVC's outputs, which it removes before the stage runs
_POOL_SCHEMA = pa.schema(
    [
        *RAW_SCHEMA,
        pa.field("split", pa.string()),
        pa.field("time", pa.float64()),
        pa.field("rank", pa.uint64()),
    ]
)


def download(
    articles: Iterable[Article],
    folder: Path,
    *,
    shares: Shares,
    by_time: bool,
    max_rows: int | None,
    sources: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the three splits as Parquet files, whole or not at all; memory does not grow with the corpus.

    Args:
        articles: the rows as the reader gives them, each perhaps with its split.
        folder: where train, validation and test are written, with their checksums.
        shares: what is held out of a corpus that comes in one piece, or lacks a split.
        by_time: hold the newest rows out, instead of some groups chosen by hash.
        max_rows: how many rows to take of all splits together; None takes all.
        sources: SHA-256 of the files that the articles come from, complete once they are all read.

    Returns:
        What `checksums.json` in the folder holds: rows and SHA-256 of each split, and `sources`.
    """
    remove_leftovers(folder)
    with tempfile.TemporaryDirectory(dir=_parent(folder), prefix=f".{folder.name}.", suffix=".part") as work:
        pool = Path(work, "pool.parquet")
        ranks, times, given = _write_pool(articles, pool)
        if not ranks:
            raise PrecisError("the corpus has no rows; is params.yaml: corpus right?")
        highest = pick(np.frombuffer(ranks, dtype=np.uint64), max_rows)
        cuts = split_by_time(np.frombuffer(times, dtype=np.float64), shares) if by_time else None
        with atomic_directory(folder) as temporary:
            counts = _write_splits(pool, temporary, highest, cuts, shares, given)
            return _write_sums(temporary, counts, sources)


def download_stream(
    shards: list[Shard],
    folder: Path,
    work: Path,
    *,
    buffer: Buffer,
    shares: Shares,
    max_rows: int | None,
    references: str | None = None,
) -> dict[str, Any]:
    """Write the three splits of a corpus that is not copied here; what a kill leaves in `work` is gone on with.

    Args:
        shards: the pieces of the corpus.
        folder: as for `download`.
        work: for the rows taken so far, until all are in `folder`.
        buffer: how rows are mixed.
        shares: what is held out of a corpus that comes in one piece, or lacks a split, and what share of `max_rows` is
            taken of splits that it comes with.
        max_rows: how many rows to take; no more of the corpus is read than that needs. None takes all.
        references: the column of references, which no row may have.

    Returns:
        as `download`; `sources` has what the store calls the contents of its files.
    """
    remove_leftovers(folder)
    streamed = StreamedParts(work, shards, buffer, quotas(shards, max_rows, shares.validation, shares.test))
    parts = streamed.fill()
    if not parts:
        raise PrecisError("the corpus has no rows; is params.yaml: corpus right?")
    given = {shard.split for shard in shards if shard.split is not None}
    digests = {shard.name: shard.digest for shard in shards if shard.digest is not None}
    with atomic_directory(folder) as temporary:
        counts = _write_stream(parts, temporary, shares, given, references)
        sums = _write_sums(temporary, counts, digests)
    streamed.clear()
    return sums


def _write_stream(
    parts: list[Path], folder: Path, shares: Shares, given: set[str], references: str | None
) -> Counter[str]:
    """Put the rows of all parts into their splits; memory holds a few of each."""
    counts: Counter[str] = Counter()
    writers = {split: parquet_writer(folder / f"{split}.parquet", RAW_SCHEMA) for split in SPLITS}
    waiting: dict[str, list[Article]] = {split: [] for split in SPLITS}
    has_references = False

    def write(split: str) -> None:
        for batch in batches(waiting[split], RAW_SCHEMA):
            writers[split].write_batch(batch)
        waiting[split].clear()

    try:
        for row in read_parts(parts):
            has_references = has_references or row.references is not None
            split = row.split or _split_of(row, None, shares)
            if split == "train" and given and given != set(SPLITS):
                split = _fill(row, shares, given)
            counts[split] += 1
            waiting[split].append(row)
            if len(waiting[split]) == MAX_BATCH_ROWS:
                write(split)
        for split in SPLITS:
            write(split)
    finally:
        for writer in writers.values():
            writer.close()
    if references is not None and not has_references:
        raise PrecisError(
            f"corpus.columns.references: no row has a column `{references}`; a corpus without references has null there"
        )
    return counts


def _write_sums(folder: Path, counts: Counter[str], sources: Mapping[str, str] | None) -> dict[str, Any]:
    sums: dict[str, Any] = {
        split: {"rows": counts[split], "sha256": _sha256(folder / f"{split}.parquet")} for split in SPLITS
    }
    if sources:
        sums["sources"] = dict(sorted(sources.items()))
    (folder / "checksums.json").write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")
    log.info("data/raw: %s", ", ".join(f"{counts[split]:,} {split}" for split in SPLITS))
    return sums


def _write_pool(articles: Iterable[Article], path: Path) -> tuple[array[int], array[float], set[str]]:
    """Keep every row on disk, and of each only what decides over its split in memory."""
    ranks, times, given = array("Q"), array("d"), set[str]()

    def noted() -> Iterator[_Pooled]:
        for article in articles:
            rank = stable_hash(article.id or article.document or "", "pick")
            ranks.append(rank)
            if article.time is not None:
                times.append(article.time)
            if article.split is not None:
                given.add(article.split)
            yield _Pooled(article, rank)

    with parquet_writer(path, _POOL_SCHEMA) as writer:
        for batch in batches(noted(), _POOL_SCHEMA):
            writer.write_batch(batch)
    return ranks, times, given


class _Pooled:
    """An article with its rank: attributes named like the columns."""

    __slots__ = ("article", "rank")

    def __init__(self, article: Article, rank: int) -> None:
        self.article = article
        self.rank = rank

    def __getattr__(self, name: str) -> Any:
        return getattr(self.article, name)


def _write_splits(
    pool: Path, folder: Path, highest: int, cuts: tuple[float, float] | None, shares: Shares, given: set[str]
) -> Counter[str]:
    counts: Counter[str] = Counter()
    writers = {split: parquet_writer(folder / f"{split}.parquet", RAW_SCHEMA) for split in SPLITS}
    try:
        for batch in read_batches(pool):
            rows: dict[str, list[int]] = {split: [] for split in SPLITS}
            for number, row in enumerate(batch.to_pylist()):
                if row.pop("rank") <= highest:
                    split = row.pop("split") or _split_of(Article(**row), cuts, shares)
                    if split == "train" and given and given != set(SPLITS):
                        split = _fill(Article(**row), shares, given)
                    rows[split].append(number)
            raw = batch.select(RAW_SCHEMA.names)
            for split, numbers in rows.items():
                counts[split] += len(numbers)
                if numbers:
                    writers[split].write_batch(raw.take(pa.array(numbers)))
    finally:
        for writer in writers.values():
            writer.close()
    return counts


def _split_of(article: Article, cuts: tuple[float, float] | None, shares: Shares) -> str:
    if cuts is None or article.time is None:
        return split_by_hash(group_of(article), shares)
    if article.time >= cuts[1]:
        return "test"
    return "validation" if article.time >= cuts[0] else "train"


def _fill(article: Article, shares: Shares, given: set[str]) -> str:
    """A corpus that comes with some splits only gets the others out of its training split."""
    missing = Shares(
        validation=0.0 if "validation" in given else shares.validation,
        test=0.0 if "test" in given else shares.test,
    )
    return split_by_hash(group_of(article), missing)


def _shards(corpus: CorpusParams) -> list[Shard]:
    """The pieces of the corpus, none of which is copied here."""
    columns = Columns(**corpus.columns.model_dump())
    retries = Retries(corpus.retries.attempts, corpus.retries.wait_seconds)
    if corpus.source == "files":
        return list(file_shards(corpus.files.path, _patterns(corpus), columns, _limits(corpus), retries))
    return list(_hub_reader(corpus, columns, retries).shards())


def _articles(
    corpus: CorpusParams, distribution: str, folder: Path, sources: dict[str, str]
) -> Iterable[Article]:
    """The rows of the corpus; the checksums of the files read are put into `sources` on the way."""
    columns = Columns(**corpus.columns.model_dump())
    retries = Retries(corpus.retries.attempts, corpus.retries.wait_seconds)
    match corpus.source:
        case "docstrings":
            return read_docstrings(distribution, Wanted(**corpus.docstrings.model_dump()))
        case "files":
            patterns, limits = _patterns(corpus), _limits(corpus)
            return FilesReader(corpus.files.path, patterns, columns, limits, retries, folder, sources).read()
        case "hub":
            return _hub_reader(corpus, columns, retries).read()


def _patterns(corpus: CorpusParams) -> dict[str, str | None]:
    return {"train": corpus.files.train, "validation": corpus.files.validation, "test": corpus.files.test}


def _limits(corpus: CorpusParams) -> Limits:
    files = corpus.files
    return Limits(files.max_row_bytes, files.max_decompressed_bytes, files.max_decompression_ratio)


def _hub_reader(corpus: CorpusParams, columns: Columns, retries: Retries) -> HubReader:
    hub = corpus.hub
    assert hub.name is not None  # params.yaml is checked for it
    return HubReader(hub.name, hub.config, hub.revision, hub.splits.model_dump(), columns, retries)


def _parent(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.parent


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Run the stage with params.yaml."""
    corpus = load_params().corpus
    shares = Shares(corpus.split.validation_share, corpus.split.test_share)
    if corpus.streaming:
        download_stream(
            _shards(corpus),
            RAW,
            STREAM,
            buffer=Buffer(corpus.shuffle.buffer_rows, corpus.shuffle.seed),
            shares=shares,
            max_rows=corpus.max_rows,
            references=corpus.columns.references,
        )
        return
    remove_leftovers(RAW.with_name("fetched"))
    with tempfile.TemporaryDirectory(dir=_parent(RAW), prefix=".fetched.", suffix=".part") as fetched:
        sources: dict[str, str] = {}
        articles = _articles(corpus, "precis", Path(fetched), sources)
        by_time = corpus.split.by == "time"
        download(articles, RAW, shares=shares, by_time=by_time, max_rows=corpus.max_rows, sources=sources)


if __name__ == "__main__":
    run_stage(main)
