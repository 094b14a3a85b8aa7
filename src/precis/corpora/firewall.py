"""All checks on all rows: what goes on, what is set aside, and the counts of both.

Splits go through in the order test, validation, train, so that of two copies the one nearer to training is
set aside: no row of the test set is dropped for being in another split.
"""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from precis.corpora.article import (
    PREPARED_SCHEMA,
    RAW_SCHEMA,
    SPLITS,
    parquet_writer,
    read_batches,
)
from precis.corpora.checks import CHECK_OF, CHECKS, Problem, TextLimits
from precis.corpora.examination import Examination
from precis.corpora.near_duplicates import NearDuplicateSearch
from precis.execution.engine import Engine

ORDER = ("test", "validation", "train")
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("split", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        *(RAW_SCHEMA.field(name) for name in ("id", "document", "summary", "references", "group")),
    ]
)


@dataclass
class Findings:
    """What the checks found in a corpus."""

    read: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rows by split and reason: with what is kept, these add up to what was read."""
    reported: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Problems by split and reason whose rows stay, because the check's action is to report."""
    examples: dict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    duplicates: dict[str, int] = field(default_factory=dict)
    """Rows of a split whose document an earlier row of the split has."""
    copies: dict[str, int] = field(default_factory=dict)
    """`test_in_train`: rows of test whose document a row of train has; and so on."""
    near_copies: dict[str, int] = field(default_factory=dict)
    test_ids: list[str] = field(default_factory=list)
    clean_test_ids: list[str] = field(default_factory=list)
    """Test rows whose document is in no other split, nor earlier in test."""
    document_words: dict[str, array[int]] = field(default_factory=dict)
    summary_words: dict[str, array[int]] = field(default_factory=dict)

    def example(self, split: str, row_id: str | None, problem: Problem, most: int) -> None:
        """Keep the first few of each reason."""
        shown = self.examples[problem.reason]
        if len(shown) < most:
            shown.append({"split": split, "id": str(row_id), "detail": problem.detail})

    def count(self, check: str) -> int:
        """Rows that failed a check, whether they were set aside or not."""
        return sum(
            number
            for counter in (self.set_aside, self.reported)
            for (_, reason), number in counter.items()
            if CHECK_OF[reason] == check
        )

    def share(self, check: str) -> float:
        """The rows that fail a check, of all rows; for leakage, of the held-out split that has most."""
        if check in ("leakage", "near_leakage"):
            return self.worst_leak(check)[3]
        return self.count(check) / max(1, self.read.total())

    def worst_leak(self, check: str) -> tuple[str, str, int, float]:
        """The held-out split of which most is elsewhere: its name, where that is, rows of it, and their share."""
        copies = self.copies if check == "leakage" else self.near_copies
        leaks = [
            (held_out, other, number, number / max(1, self.read[held_out]))
            for name, number in copies.items()
            for held_out, _, other in [name.partition("_in_")]
        ]
        return max(leaks, key=lambda leak: leak[3], default=("test", "train", 0, 0.0))


@dataclass
class Firewall:
    """Reads data/raw and writes the rows that pass, and those that do not.

    Attributes:
        actions: for each check `quarantine` or `report`.
        limits: lengths past which a text is no article.
        max_same_summary: how many training rows may share a summary.
        search: how near duplicates are found; None leaves them.
        num_examples: how many rows of each reason the findings name.
        engine: where rows are examined and compared; what is decided is the same.
    """

    actions: Mapping[str, str]
    limits: TextLimits
    max_same_summary: int
    search: NearDuplicateSearch | None
    num_examples: int
    engine: Engine

    def __post_init__(self) -> None:
        assert set(self.actions) == set(CHECKS)

    def sift(self, raw: Path, folder: Path) -> Findings:
        """Write train, validation, test and quarantine as Parquet files into `folder`."""
        findings = Findings()
        keys: dict[str, array[int]] = {}
        with ExitStack() as stack:
            quarantine = stack.enter_context(parquet_writer(folder / "quarantine.parquet", QUARANTINE_SCHEMA))
            digests = _Digests(
                stack.enter_context(tempfile.TemporaryFile(dir=folder)), self.search, self.engine
            )
            for split in ORDER:
                keys[split] = array("q")
                self._sift_split(split, raw, folder, quarantine, keys, digests, findings)
            _count_copies(keys, findings)
            if self.search is not None:
                self._drop_near_duplicates(folder, digests.earlier_copies(), quarantine, findings)
        for split in ORDER:
            findings.kept[split] = pq.read_metadata(str(folder / f"{split}.parquet")).num_rows
        return findings

    def _sift_split(
        self,
        split: str,
        raw: Path,
        folder: Path,
        quarantine: pq.ParquetWriter,
        keys: Mapping[str, array[int]],
        digests: _Digests,
        findings: Findings,
    ) -> None:
        judge = _Judge(self, split, keys, findings)
        findings.document_words[split], findings.summary_words[split] = array("L"), array("L")
        examination = Examination(self.limits, self.search)
        with parquet_writer(folder / f"{split}.parquet", PREPARED_SCHEMA) as writer:
            for batch in self.engine.map_rows(raw / f"{split}.parquet", examination):
                verdicts = judge.decide(batch)
                findings.read[split] += batch.num_rows
                kept = batch.filter(pa.array([verdict is None for verdict in verdicts]))
                if kept.num_rows:
                    writer.write_batch(kept.select(PREPARED_SCHEMA.names).cast(PREPARED_SCHEMA))
                    digests.add(kept.column("digest").to_pylist())
                aside = [(n, verdict) for n, verdict in enumerate(verdicts) if verdict is not None]
                if aside:
                    quarantine.write_batch(_set_aside(batch, split, aside))

    def _drop_near_duplicates(
        self, folder: Path, earlier: NDArray[np.int64], quarantine: pq.ParquetWriter, findings: Findings
    ) -> None:
        """Set aside rows that are almost those of a split nearer to the test set, or of train itself."""
        sizes = [len(findings.document_words[split]) for split in ORDER]
        ends = np.cumsum([0, *sizes])
        origins = np.searchsorted(ends[1:], earlier, side="right")  # the split where the earlier copy is
        for number, split in enumerate(ORDER):
            rows = slice(ends[number], ends[number + 1])
            reasons = np.full(sizes[number], "", dtype=object)
            for other_number, other in enumerate(ORDER[: number + 1]):
                near = (earlier[rows] >= 0) & (origins[rows] == other_number)
                if other == split:
                    findings.duplicates[f"near_{split}"] = int(near.sum())
                    reasons[near] = "near_duplicate" if split == "train" else ""
                else:
                    findings.near_copies[f"{other}_in_{split}"] = len(np.unique(earlier[rows][near]))
                    reasons[near] = f"near_{other}"
            if any(reasons):
                self._remove(folder / f"{split}.parquet", split, reasons, quarantine, findings)

    def _remove(
        self,
        path: Path,
        split: str,
        reasons: NDArray[np.object_],
        quarantine: pq.ParquetWriter,
        findings: Findings,
    ) -> None:
        """Rewrite a split without the rows that have a reason for it."""
        keep = np.ones(len(reasons), dtype=bool)
        for reason, number in sorted(Counter(reasons[reasons != ""]).items()):
            if self.actions[CHECK_OF[reason]] == "quarantine":
                keep &= reasons != reason
                findings.set_aside[split, reason] += number
            else:
                findings.reported[split, reason] += number
        rest = path.with_suffix(".rest")
        start = 0
        with parquet_writer(rest, PREPARED_SCHEMA) as writer:
            for batch in read_batches(path):
                some = slice(start, start + batch.num_rows)
                start += batch.num_rows
                problems = [Problem(reason, "nearly the same words") for reason in reasons[some]]
                for row_id, problem in zip(batch.column("id").to_pylist(), problems, strict=True):
                    if problem.reason:
                        findings.example(split, row_id, problem, self.num_examples)
                writer.write_batch(batch.filter(pa.array(keep[some])))
                gone = [(int(n), problems[n]) for n in np.flatnonzero(~keep[some])]
                if gone:
                    quarantine.write_batch(_set_aside(batch, split, gone))
        rest.replace(path)
        for lengths in (findings.document_words, findings.summary_words):
            lengths[split] = array("L", np.frombuffer(lengths[split], dtype="L")[keep].tolist())


class _Digests:
    """The MinHash digests of the rows kept so far: on disk, in memory only their bands."""

    def __init__(self, file: IO[bytes], search: NearDuplicateSearch | None, engine: Engine) -> None:
        self._file = file
        self._search = search
        self._engine = engine
        self._band_keys: list[NDArray[np.uint64]] = []

    def add(self, digests: list[bytes]) -> None:
        """Take those of some more rows."""
        if self._search is not None:
            data = b"".join(digests)
            self._file.write(data)
            self._band_keys.append(self._search.band_keys(self._search.matrix(data)))

    def earlier_copies(self) -> NDArray[np.int64]:
        """For each row the first earlier row that is nearly the same, -1 where none is."""
        assert self._search is not None
        self._file.flush()
        if not self._band_keys:
            return np.empty(0, dtype=np.int64)
        keys = np.concatenate(self._band_keys)
        self._band_keys.clear()
        shape = (len(keys), self._search.permutations)
        digests = np.memmap(self._file, np.uint32, "r", shape=shape)
        return self._search.earlier_copies(digests, keys, self._engine)


class _Judge:
    """Decides over the rows of one split, in their order."""

    def __init__(
        self, firewall: Firewall, split: str, keys: Mapping[str, array[int]], findings: Findings
    ) -> None:
        self._firewall = firewall
        self._split = split
        self._keys = keys[split]
        self._findings = findings
        self._before = {other: set(keys[other]) for other in ORDER[: ORDER.index(split)]}
        self._seen: set[int] = set()
        self._ids: set[int] = set()
        self._summaries: Counter[int] = Counter()

    def decide(self, batch: pa.RecordBatch) -> list[Problem | None]:
        """For each row, as `Examination` left it, why it is set aside; None if it is kept."""
        findings, split = self._findings, self._split
        columns = [batch.column(name).to_pylist() for name in _Row._fields]
        verdicts: list[Problem | None] = []
        for row in map(_Row, *columns):
            usable, problems = self._problems(row)
            decisive = None
            for problem in problems:
                findings.example(split, row.id, problem, self._firewall.num_examples)
                quarantined = self._firewall.actions[CHECK_OF[problem.reason]] == "quarantine"
                if decisive is None and (quarantined or not usable):
                    decisive = problem
                    findings.set_aside[split, problem.reason] += 1
                elif decisive is None:
                    findings.reported[split, problem.reason] += 1
            verdicts.append(decisive)
            if decisive is None:
                findings.document_words[split].append(row.document_words)
                findings.summary_words[split].append(row.summary_words)
        return verdicts

    def _problems(self, row: _Row) -> tuple[bool, list[Problem]]:
        """Whether a row could be kept at all, and what is wrong with it."""
        if row.unusable is not None:
            return False, [Problem(**row.unusable)]
        if problem := self._repeated_id(row.id):
            return False, [problem]
        problems = [] if row.document_key is None else self._copies(row.document_key, row.id)
        if row.empty is not None:
            return False, [Problem(**row.empty)]
        problems += (Problem(**problem) for problem in row.problems)
        if self._split == "train" and not problems:
            assert row.summary_key is not None
            self._summaries[row.summary_key] += 1
            if self._summaries[row.summary_key] > self._firewall.max_same_summary:
                problems.append(Problem("boilerplate", f"{row.summary[:60]!r} once more"))
        return True, problems

    def _repeated_id(self, row_id: str) -> Problem | None:
        key = hash(row_id)  # 64 bits each, of a large corpus's ids; compared within this process only
        if key in self._ids:
            return Problem("duplicate_id", "an earlier row has it")
        self._ids.add(key)
        return None

    def _copies(self, key: int, row_id: str) -> list[Problem]:
        self._keys.append(key)
        if self._split == "test":
            self._findings.test_ids.append(row_id)
        problems = [
            Problem(f"in_{other}", f"the same document as a row of {other}")
            for other, there in self._before.items()
            if key in there
        ]
        if self._split == "train" and key in self._seen:
            problems.append(Problem("duplicate", "the same document as an earlier row"))
        self._seen.add(key)
        return problems


class _Row(NamedTuple):
    """What is decided by, named as in `EXAMINED_SCHEMA`."""

    id: str
    summary: str
    unusable: dict[str, str] | None
    empty: dict[str, str] | None
    document_key: int | None
    summary_key: int | None
    document_words: int
    summary_words: int
    problems: list[dict[str, str]]


def _count_copies(keys: Mapping[str, array[int]], findings: Findings) -> None:
    documents = {split: np.frombuffer(keys[split], dtype=np.int64) for split in ORDER}
    elsewhere = np.zeros(len(documents["test"]), dtype=bool)
    for split, held_out in (("validation", "test"), ("train", "test"), ("train", "validation")):
        copied = np.isin(documents[held_out], documents[split])
        findings.copies[f"{held_out}_in_{split}"] = int(copied.sum())
        if held_out == "test":
            elsewhere |= copied
    for split in SPLITS:
        findings.duplicates[split] = len(documents[split]) - len(np.unique(documents[split]))
    first = np.zeros(len(elsewhere), dtype=bool)
    first[np.unique(documents["test"], return_index=True)[1]] = True
    clean = first & ~elsewhere
    findings.clean_test_ids = [row_id for row_id, good in zip(findings.test_ids, clean, strict=True) if good]


def _set_aside(batch: pa.RecordBatch, split: str, aside: list[tuple[int, Problem]]) -> pa.RecordBatch:
    """Some rows of a batch, as the quarantine has them."""
    numbers, problems = zip(*aside, strict=True)
    rows = batch.take(pa.array(numbers))
    reasons, details = zip(*problems, strict=True)
    arrays = [pa.array([split] * len(aside)), pa.array(reasons), pa.array(details)]
    arrays += [rows.column(name) for name in QUARANTINE_SCHEMA.names[len(arrays) :]]
    return pa.RecordBatch.from_arrays(arrays, QUARANTINE_SCHEMA.names).cast(QUARANTINE_SCHEMA)
