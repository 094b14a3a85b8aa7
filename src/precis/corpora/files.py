"""Corpora in files: JSON Lines, CSV, TSV or Parquet, plain, gzip or zstd, here or behind an fsspec URL.

Text files are read line by line rather than by `datasets`: there one bad line refuses the whole file, a missing
column becomes nulls without a word, and every file is first copied into a cache. Here a row that cannot be read
has a problem of its own, and memory holds one row.
"""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import io
import json
import logging
import os
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from precis.corpora.article import SPLITS, Article
from precis.corpora.columns import Columns
from precis.corpora.remote_file import (
    RemoteFile,
    network_errors_as_os_errors,
    open_system,
    without_secrets,
)
from precis.errors import PrecisError, UnreachableError

log = logging.getLogger(__name__)

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_SPLIT_PREFIXES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_SIGNATURES = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a zip archive (or an Excel file)",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x7fELF": "a program",
    b"%PDF": "PDF",
    b"\x89PNG": "a picture",
    b"SQLite": "an SQLite database",
    b"ARROW1": "Arrow",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}
_EXPECTED = "expected .jsonl, .csv, .tsv (also with .gz or .zst after it) or .parquet"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_PROBE_ROWS = 100  # if none of the first so many can be read, the file is something else
_PARQUET_ROWS = 256  # decoded at once
_COLUMN_ROWS = 1_000  # if none of the first so many has a column, it is misspelt
Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """What no honest corpus exceeds."""

    row_bytes: int
    decompressed_bytes: int
    decompression_ratio: int


@dataclass(frozen=True)
class Retries:
    """How often a failed network request is tried again, and how long the first wait is; waits double."""

    attempts: int
    wait_seconds: float


@dataclass(frozen=True)
class CorpusFile:
    """A file, its name in messages and ids, and the split that it holds (None: to be split)."""

    path: Path | RemoteFile
    name: str
    split: str | None
    format: str
    compression: str | None


@dataclass
class FilesReader:
    """Reads every row of the files that `location` stands for, each exactly once."""

    location: str
    patterns: Mapping[str, str | None]
    columns: Columns
    limits: Limits
    retries: Retries
    download_folder: Path
    checksums: dict[str, str] = field(default_factory=dict)
    columns_seen: set[str] = field(default_factory=set)

    def read(self) -> Iterator[Article]:
        """The rows in the order of the files' names; raises PrecisError for a file that is no corpus."""
        for file in self._files():
            _check_content(file)
            assert isinstance(file.path, Path)
            self.checksums[file.name] = _sha256(file.path)
            rows = _READERS[file.format](file, self.limits)
            yield from _articles(file, rows, self.columns, self.columns_seen)
        self.columns.check(self.columns_seen, self.location, everywhere=True)

    def _files(self) -> list[CorpusFile]:
        if "://" in self.location and not self.location.startswith("file://"):
            root = with_retries(self._fetch, self.retries, self.location)
        else:
            root = Path(self.location.removeprefix("file://"))
        return find_files(root, self.patterns)

    def _fetch(self) -> Path:
        system, remote = open_system(self.location)
        return network_errors_as_os_errors(lambda: self._copy(system, remote))

    def _copy(self, system: Any, remote: str) -> Path:
        target = self.download_folder
        target.mkdir(parents=True, exist_ok=True)
        if system.isdir(remote):
            for path in sorted(system.find(remote)):
                inner = path[len(remote.rstrip("/")) + 1 :]
                if _suffixes(inner)[0] in FORMATS:
                    local = _inside(target, inner)
                    local.parent.mkdir(parents=True, exist_ok=True)
                    system.get_file(path, str(local))
            return target
        local = _inside(target, Path(urlsplit(self.location).path or remote).name)
        system.get_file(remote, str(local))
        return local


@dataclass(frozen=True)
class FileShard:
    """A file as a shard of a stream; see `precis.corpora.streaming`."""

    file: CorpusFile
    columns: Columns
    limits: Limits

    @property
    def name(self) -> str:
        """Of the file, below the folder or the URL."""
        return self.file.name

    @property
    def split(self) -> str | None:
        """What the file's name, or a pattern, says."""
        return self.file.split

    @property
    def version(self) -> str:
        """Another one when the file is."""
        if isinstance(self.file.path, RemoteFile):
            return self.file.path.version
        about = self.file.path.stat()
        return f"{about.st_size} {about.st_mtime_ns}"

    @property
    def digest(self) -> str | None:
        """Of the file's content, if its store knows one."""
        return self.file.path.digest if isinstance(self.file.path, RemoteFile) else None

    def read(self) -> Iterator[Article]:
        """The rows of the file; raises PrecisError if it is none of a corpus."""
        _check_content(self.file)
        yield from _articles(
            self.file, _READERS[self.file.format](self.file, self.limits), self.columns, set()
        )


def file_shards(
    location: str, patterns: Mapping[str, str | None], columns: Columns, limits: Limits, retries: Retries
) -> list[FileShard]:
    """The files that `location` stands for, none of which is copied here."""
    if "://" not in location or location.startswith("file://"):
        files = find_files(Path(location.removeprefix("file://")), patterns)
    else:
        files = with_retries(lambda: _remote_files(location, patterns, retries), retries, location)
    return [FileShard(file, columns, limits) for file in files]


def _remote_files(location: str, patterns: Mapping[str, str | None], retries: Retries) -> list[CorpusFile]:
    system, path = open_system(location)

    def retry(action: Callable[[], Any], name: str) -> Any:
        return with_retries(action, retries, name)

    found = network_errors_as_os_errors(lambda: system.find(path, detail=True))
    if not found:
        raise FileNotFoundError(location)
    if set(found) == {path}:  # a file and no folder
        file = RemoteFile(system, path, found[path], retry)
        _refuse_patterns(str(file), {split: one for split, one in patterns.items() if one is not None})
        return [_corpus_file(file, file.name, None)]
    every: dict[str, Path | RemoteFile] = {}
    for full, about in found.items():
        inner = full[len(path.rstrip("/")) + 1 :]
        if _suffixes(inner)[0] in FORMATS:
            _inside(Path(), inner)
            every[inner] = RemoteFile(system, full, about, retry)
    return _in_splits(every, without_secrets(location), patterns, [Path(full).name for full in found])


def _inside(folder: Path, name: str) -> Path:
    """The file of this name in the folder; a server does not choose where its files go."""
    parts = Path(name).parts
    if not parts or ".." in parts or Path(name).is_absolute() or "\0" in name:
        raise PrecisError(f"corpus.files.path: the server calls a file {name[:100]!r}, which is not used")
    return folder / name


def first_rows(path: Path, num_rows: int, limits: Limits) -> list[dict[str, Any]]:
    """The first rows that can be read of a file or of each file of a folder, with all their columns."""
    rows: list[dict[str, Any]] = []
    files = find_files(path, {})
    for file in files:
        _check_content(file)
        readable = (row for _, row in _READERS[file.format](file, limits) if isinstance(row, dict))
        rows += islice(readable, max(1, num_rows // len(files)))
    return rows


def with_retries(
    action: Callable[[], Result],
    retries: Retries,
    what: str,
    advice: str = "Is the network there? Local files need none",
) -> Result:
    """Do `action`, again after a while when the network fails; raises UnreachableError when it keeps failing."""
    what = without_secrets(what)
    for attempt in range(1, retries.attempts + 1):
        try:
            return action()
        except FileNotFoundError as error:
            raise PrecisError(f"{what} not found; is corpus.files.path right?") from error
        except (OSError, TimeoutError) as error:
            if attempt == retries.attempts:
                message = f"{what} cannot be read after {attempt} attempts: {_short(error)}"
                raise UnreachableError(f"{message}. {advice}") from error
            wait = retries.wait_seconds * 2 ** (attempt - 1)
            log.warning(
                "%s: %s; attempt %d of %d in %.1f s", what, _short(error), attempt + 1, retries.attempts, wait
            )
            time.sleep(wait)
    raise AssertionError("at least one attempt is made")


def find_files(root: Path, patterns: Mapping[str, str | None]) -> list[CorpusFile]:
    """The data files at `root`, a file or a folder, and the split of each.

    Args:
        root: what corpus.files.path names.
        patterns: for each split a glob below the folder, or None; without any, files whose names begin with
            train, validation (valid, val, dev) or test are these splits, and if there are none, all files are
            split together.
    """
    try:
        root.stat()
        root.resolve(strict=True)
    except FileNotFoundError as error:
        raise PrecisError(f"corpus.files.path: {root} not found (or a link to nothing)") from error
    except (OSError, RuntimeError) as error:
        loop = isinstance(error, RuntimeError) or error.errno == errno.ELOOP
        reason = "a symbolic link that leads back to itself" if loop else _short(error)
        raise PrecisError(f"corpus.files.path: {root} cannot be opened: {reason}") from error
    if root.is_file():
        _refuse_patterns(str(root), {split: one for split, one in patterns.items() if one is not None})
        return [_corpus_file(root, root.name, None)]
    if not root.is_dir():
        raise PrecisError(f"corpus.files.path: {root} is neither a file nor a folder")
    paths: dict[str, Path | RemoteFile] = {path.relative_to(root).as_posix(): path for path in _walk(root)}
    return _in_splits(paths, str(root), patterns, [path.name for path in root.iterdir()])


def _refuse_patterns(root: str, given: Mapping[str, str]) -> None:
    if given:
        names = ", ".join(f"corpus.files.{split}" for split in given)
        raise PrecisError(f"corpus.files.path: {root} is one file, so {names} must be null")


def _in_splits(
    paths: Mapping[str, Path | RemoteFile], root: str, patterns: Mapping[str, str | None], there: list[str]
) -> list[CorpusFile]:
    """The files of a folder, by their names in it, with the split of each.

    Args:
        paths: those with an extension that is read.
        root: what to call the folder.
        patterns: as for `find_files`.
        there: what the folder has, to tell of it.
    """
    given = {split: pattern for split, pattern in patterns.items() if pattern is not None}
    if given:
        return _files_by_pattern(paths, root, given)
    if not paths:
        raise PrecisError(
            f"corpus.files.path: {root}/ has no corpus in it ({', '.join(sorted(there)[:10]) or 'it is empty'}); "
            f"{_EXPECTED}. Put files there, or choose another corpus.source"
        )
    splits = {name: _split_by_name(name) for name in paths}
    if any(splits.values()) and not all(splits.values()):
        odd = sorted(name for name, split in splits.items() if split is None)
        raise PrecisError(
            f"corpus.files.path: {root}/ has files for splits, and others besides: {', '.join(odd[:5])}. "
            "Remove them, or say which is which with corpus.files.train, .validation and .test"
        )
    return [_corpus_file(paths[name], name, splits[name]) for name in sorted(paths)]


def _files_by_pattern(
    every: Mapping[str, Path | RemoteFile], root: str, patterns: Mapping[str, str]
) -> list[CorpusFile]:
    owners: dict[str, str] = {}
    for split, pattern in patterns.items():
        matching = [name for name in every if fnmatch(name, pattern)]
        if not matching:
            there = ", ".join(sorted(every)[:10]) or "no file with a known extension"
            raise PrecisError(f"corpus.files.{split}: no file of {root}/ matches {pattern!r}; there: {there}")
        for name in matching:
            if name in owners:
                raise PrecisError(f"corpus.files: {name} is in two splits, {owners[name]} and {split}")
            owners[name] = split
    return [_corpus_file(every[name], name, owners[name]) for name in sorted(owners)]


def _walk(root: Path) -> Iterator[Path]:
    # os.walk does not follow links to folders, so a loop of links cannot hold it
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith(".") or name.lower().startswith(("readme", "license")):
                continue
            if _suffixes(name)[0] in FORMATS:
                yield Path(folder, name)
            else:
                log.warning("%s is left out: %s", name, _EXPECTED)
        for name in folders:
            if _suffixes(name)[0] in FORMATS:
                raise PrecisError(f"{Path(folder, name)} is a folder with the name of a file; rename it")


def _split_by_name(name: str) -> str | None:
    parts = [part.lower() for part in Path(name).parts]
    for split, prefixes in _SPLIT_PREFIXES.items():
        for part in parts:
            # `train.jsonl`, `train-00000-of-00002.parquet`, `train/0.jsonl`, but not `training_notes.csv`
            stem = part.split(".")[0]
            if any(stem == prefix or stem.startswith((f"{prefix}-", f"{prefix}_")) for prefix in prefixes):
                return split
    return None


def _suffixes(name: str) -> tuple[str, str | None]:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else None
    return (suffixes[-1] if suffixes else ""), compression


def _corpus_file(path: Path | RemoteFile, name: str, split: str | None) -> CorpusFile:
    if not (name.isprintable() and name.isascii()) and not _is_text(name):
        raise PrecisError(
            f"{name!r}: a file's name goes into ids and pages; rename it to letters that UTF-8 has"
        )
    suffix, compression = _suffixes(path.name)
    if suffix not in FORMATS:
        raise PrecisError(f"{path} has an extension that precis does not read; {_EXPECTED}")
    if FORMATS[suffix] == "parquet" and compression:
        raise PrecisError(f"{path}: Parquet is compressed inside; unpack it, and leave {compression} away")
    return CorpusFile(path, name, split, FORMATS[suffix], COMPRESSIONS.get(compression or ""))


def _is_text(name: str) -> bool:
    """Whether a name has no control characters, and no bytes that are no UTF-8."""
    return all(unicodedata.category(character) not in ("Cc", "Cs", "Cn") for character in name)


def _check_content(file: CorpusFile) -> None:
    """Compare the first bytes with what the name promises."""
    try:
        if not stat.S_ISREG(file.path.stat().st_mode):
            # opening a pipe would wait for ever
            raise PrecisError(f"{file.path} is no ordinary file")
        with file.path.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        reason = "a symbolic link that leads back to itself" if error.errno == errno.ELOOP else _short(error)
        raise PrecisError(f"{file.path} cannot be opened: {reason}") from error
    if not start:
        raise PrecisError(f"{file.path} is empty")
    promised = {"gzip": "gzip", "zstd": "zstd"}.get(file.compression or "", "text")
    promised = "Parquet" if file.format == "parquet" else promised
    found = next((kind for signature, kind in _SIGNATURES.items() if start.startswith(signature)), "text")
    if found != promised:
        raise PrecisError(
            f"{file.path} is not what its name says: expected {promised}, found {found}; rename or convert it"
        )


def _articles(
    file: CorpusFile, rows: Iterable[tuple[int, Any]], columns: Columns, seen_anywhere: set[str]
) -> Iterator[Article]:
    """Map columns; a column that none of the first rows has is misspelt, and refused before the long work."""
    seen: set[str] = set()
    missing = set(columns.names().values())
    held: list[Article] = []
    readable = 0
    problem = ""
    for number, row in rows:
        row_id = f"{file.name}:{number}"
        if isinstance(row, str):
            article = Article(row_id, None, None, problem=row)
            problem = problem or row
        else:
            article = columns.article(row, row_id)
            readable += 1
            seen.update(row)
            seen_anywhere.update(row)
            missing.difference_update(row)
        article.split = file.split
        if not missing:
            yield from held
            held.clear()
            yield article
            continue
        held.append(article)
        if len(held) == _PROBE_ROWS and not readable:
            break
        if readable == _COLUMN_ROWS:
            columns.check(seen, str(file.path))
            missing.clear()
    if held or missing:
        if not readable:
            what = f"none of its first {len(held)} rows can be read ({problem})" if held else "it has no rows"
            raise PrecisError(f"{file.path} is not {_KINDS[file.format]}: {what}")
        columns.check(seen, str(file.path))
        yield from held


def _json_rows(file: CorpusFile, limits: Limits) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(file, limits), start=1):
        if line is None:
            yield number, _too_long(limits)
            continue
        if number == 1 and line.lstrip(_BYTE_ORDER_MARK + b" \t").startswith(b"["):
            raise PrecisError(
                f"{file.path} holds a JSON array; expected JSON Lines, one object a line "
                f"(`jq -c '.[]' {file.path.name}` makes them)"
            )
        if line.strip():  # a blank line is no row
            yield number, _parse_json(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line)


def _parse_json(line: bytes) -> dict[str, Any] | str:
    try:
        # undecodable bytes stay visible as lone surrogates, and are told of when the text is stored
        row = _DECODER.decode(line.decode("utf-8", "surrogateescape").strip())
    except RecursionError:
        return "invalid_json: nested too deep"
    except ValueError as error:
        return f"invalid_json: {_short(error)}"
    if not isinstance(row, dict):
        return "invalid_json: expected an object"
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key is there twice")
    return row


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)


def _table_rows(file: CorpusFile, limits: Limits) -> Iterator[tuple[int, Any]]:
    delimiter = "\t" if file.format == "tsv" else ","
    previous_limit = csv.field_size_limit(limits.row_bytes)
    try:
        lines = _TextLines(file, limits)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = [name.strip() for name in next(rows, [])]
        except csv.Error as error:
            raise PrecisError(f"{file.path}: the header cannot be read: {error}") from error
        _check_header(file, header)
        while True:
            lines.row_bytes = 0
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end of data" in str(error) or "field larger" in str(error):
                    raise PrecisError(
                        f"{file.path}, line {rows.line_num}: a quote opens and never closes"
                    ) from error
                yield rows.line_num, f"invalid_csv: {error}"
                continue
            if not cells:
                continue
            if len(cells) != len(header):
                yield rows.line_num, f"invalid_csv: {len(cells)} cells, the header has {len(header)}"
                continue
            yield (
                rows.line_num,
                {name: cell if cell else None for name, cell in zip(header, cells, strict=True)},
            )
    finally:
        csv.field_size_limit(previous_limit)


def _check_header(file: CorpusFile, header: list[str]) -> None:
    if any(name.startswith("{") for name in header):
        raise PrecisError(
            f"{file.path} is not what its name says: expected {file.format.upper()}, found JSON"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise PrecisError(f"{file.path}: the header has {', '.join(map(repr, twice))} twice")
    if not header:
        raise PrecisError(f"{file.path} has no header")


class _TextLines:
    """The lines of a file as text; a quoted cell may hold line feeds, a row no more than its share of bytes."""

    def __init__(self, file: CorpusFile, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._lines = enumerate(_lines(file, limits), start=1)
        self.row_bytes = 0
        """Read since whoever reads last began a row."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        if line is None:
            raise PrecisError(
                f"{self._file.path}, line {number}: {_too_long(self._limits).partition(': ')[2]}"
            )
        self.row_bytes += len(line)
        if self.row_bytes > 2 * self._limits.row_bytes:
            raise PrecisError(f"{self._file.path}, line {number}: a quote opens and never closes")
        text = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        return text.decode("utf-8", "surrogateescape")


def _parquet_rows(file: CorpusFile, limits: Limits) -> Iterator[tuple[int, Any]]:
    number = total = 0
    packed = file.path.stat().st_size
    try:
        with pq.ParquetFile(_for_arrow(file), pre_buffer=False) as parquet:
            _check_parquet(file, parquet.metadata, limits)
        # a text that is there a thousand times is in the file once, and should be in the memory once
        texts = [field.name for field in parquet.schema_arrow if pa.types.is_string(field.type)]
        with pq.ParquetFile(_for_arrow(file), pre_buffer=False, read_dictionary=texts) as parquet:
            for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS):
                columns = list(zip(batch.schema.names, batch.columns, strict=True))
                for place in range(batch.num_rows):
                    number += 1
                    row = {name: column[place].as_py() for name, column in columns}
                    size = _size_of(row)
                    total += size
                    _check_size(file, total, packed, limits)
                    yield number, _too_long(limits) if size > limits.row_bytes else row
            if not parquet.metadata.num_rows and parquet.schema_arrow.names:
                raise PrecisError(f"{file.path} has no rows")
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise PrecisError(f"{file.path} is damaged after row {number}: {_short(error)}") from error


def _for_arrow(file: CorpusFile) -> Any:
    return file.path.open("rb") if isinstance(file.path, RemoteFile) else str(file.path)


def _check_parquet(file: CorpusFile, metadata: Any, limits: Limits) -> None:
    """A Parquet file says itself how large it is unpacked; what lies about that fails when it is read."""
    # not the sizes of its columns: asked for those of a damaged file, Arrow ends the process
    unpacked = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    _check_size(file, unpacked, file.path.stat().st_size, limits)


def _size_of(row: Mapping[str, Any]) -> int:
    """Roughly, in bytes: of the texts in a row, also those in lists."""
    return sum(
        len(value) if isinstance(value, str | bytes) else sum(map(len, value)) if _is_texts(value) else 8
        for value in row.values()
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _lines(file: CorpusFile, limits: Limits) -> Iterator[bytes | None]:
    """The lines of a text file; None in place of one that is longer than a row may be."""
    packed = file.path.stat().st_size
    try:
        with _opened(file) as stream:
            total = 0
            while line := stream.readline(limits.row_bytes + 1):
                total += len(line)
                complete = True
                if len(line) > limits.row_bytes and not line.endswith(b"\n"):
                    complete = False
                    while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
                        total += len(rest)
                        _check_size(file, total, packed, limits)
                _check_size(file, total, packed, limits)
                yield line if complete else None
    except (EOFError, zstandard.ZstdError, gzip.BadGzipFile, OSError) as error:
        reason = "it ends too early" if isinstance(error, EOFError) else _short(error)
        raise PrecisError(f"{file.path} is damaged: {reason}; fetch it again") from error
    except Exception as error:
        if type(error).__name__ == "error":  # zlib.error
            raise PrecisError(f"{file.path} is damaged: {_short(error)}; fetch it again") from error
        raise


def _opened(file: CorpusFile) -> io.BufferedIOBase:
    if file.compression == "gzip":
        return gzip.GzipFile(fileobj=file.path.open("rb"))
    if file.compression == "zstd":
        return io.BufferedReader(_CompleteZstd(file.path))
    return file.path.open("rb")


class _CompleteZstd(io.RawIOBase):
    """A zstd stream that, unlike the library's, tells when it is cut off, and never unpacks much at once.

    Four bytes of zstd can stand for 128 KB: what is fed to it at once bounds the memory that a bomb takes.
    """

    _FED = 2048  # bytes at once: at the worst 64 MB unpacked

    def __init__(self, path: Path | RemoteFile) -> None:
        self._file = path.open("rb")
        self._decompressor = zstandard.ZstdDecompressor().decompressobj()
        self._unpacked = memoryview(b"")
        self._packed = b""
        self._started = False

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._unpacked:
            if not self._packed:
                self._packed = self._file.read(self._FED)
            if not self._packed:
                if self._started and not self._decompressor.eof:
                    raise EOFError
                return 0
            self._feed()
        size = min(len(target), len(self._unpacked))
        target[:size] = self._unpacked[:size]
        self._unpacked = self._unpacked[size:]
        return size

    def _feed(self) -> None:
        if self._decompressor.eof:
            self._decompressor = zstandard.ZstdDecompressor().decompressobj()
        self._started = True
        self._unpacked = memoryview(self._decompressor.decompress(self._packed))
        self._packed = self._decompressor.unused_data if self._decompressor.eof else b""

    def close(self) -> None:
        self._file.close()
        super().close()


def _check_size(file: CorpusFile, total: int, packed: int, limits: Limits) -> None:
    if file.compression is None and file.format != "parquet":
        return
    if total > limits.decompressed_bytes:
        raise PrecisError(
            f"{file.path} unpacks to more than {limits.decompressed_bytes:,} bytes "
            "(corpus.files.max_decompressed_bytes)"
        )
    # small files of one repeated word are no bomb
    if total > 4 * limits.row_bytes and total > packed * limits.decompression_ratio:
        raise PrecisError(
            f"{file.path} unpacks to more than {limits.decompression_ratio} times its size "
            "(corpus.files.max_decompression_ratio): it looks made to fill the disk"
        )


def _too_long(limits: Limits) -> str:
    return f"row_too_long: more than {limits.row_bytes:,} bytes (corpus.files.max_row_bytes)"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _short(error: BaseException) -> str:
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip().splitlines()[0]
    return text if len(text) <= 150 else text[:149] + "…"


_READERS: dict[str, Callable[[CorpusFile, Limits], Iterator[tuple[int, Any]]]] = {
    "jsonl": _json_rows,
    "csv": _table_rows,
    "tsv": _table_rows,
    "parquet": _parquet_rows,
}
_KINDS = {"jsonl": "JSON Lines", "csv": "CSV", "tsv": "TSV", "parquet": "Parquet"}
assert set(_SPLIT_PREFIXES) == set(SPLITS)
