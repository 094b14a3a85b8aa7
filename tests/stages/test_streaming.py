"""`corpus.streaming: true`: what is read, kept and gone on with."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from ruamel.yaml import YAML

from precis.corpora.columns import Columns
from precis.corpora.files import FilesReader, Limits, Retries, file_shards
from precis.corpora.hub import HubReader
from precis.corpora.splits import Shares
from precis.corpora.streaming import Buffer
from precis.errors import PrecisError, UnreachableError
from precis.stages.download import download, download_stream

ROOT = Path(__file__).parents[2]
COLUMNS = Columns("document", "summary", id="id")
LIMITS = Limits(row_bytes=100_000, decompressed_bytes=10**9, decompression_ratio=200)
RETRIES = Retries(attempts=2, wait_seconds=0.0)
SHARES = Shares(validation=0.1, test=0.2)
ANYWHERE = {"train": None, "validation": None, "test": None}


def rows(first, number):
    return [
        {
            "id": f"r{one}",
            "document": f"the document {one} says what {one % 7} did",
            "summary": f"{one} said so",
        }
        for one in range(first, first + number)
    ]


def write_shards(folder, counts, prefix="part"):
    """JSON Lines, gzipped JSON Lines and Parquet in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    first = 0
    for number, count in enumerate(counts):
        some = rows(first, count)
        first += count
        text = "".join(json.dumps(row) + "\n" for row in some)
        match number % 3:
            case 0:
                (folder / f"{prefix}-{number}.jsonl").write_text(text)
            case 1:
                with fsspec.open(
                    str(folder / f"{prefix}-{number}.jsonl.gz"), "wt", compression="gzip"
                ) as file:
                    file.write(text)
            case 2:
                pq.write_table(
                    pa.Table.from_pylist(some), folder / f"{prefix}-{number}.parquet", row_group_size=20
                )


@pytest.fixture
def remote(tmp_path):
    """A function that puts a folder into fsspec's memory; gives its URL."""
    memory = fsspec.filesystem("memory")

    def put(folder, name):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                memory.pipe(f"/{name}/{path.relative_to(folder)}", path.read_bytes())
        return f"memory://{name}"

    yield put
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def stream(location, tmp_path, name="raw", *, buffer_rows=8, seed=1, max_rows=None, patterns=ANYWHERE):
    shards = file_shards(str(location), patterns, COLUMNS, LIMITS, RETRIES)
    return stream_shards(shards, tmp_path, name, Buffer(buffer_rows, seed), max_rows)


def stream_shards(shards, tmp_path, name, buffer, max_rows=None, shares=SHARES):
    folder = tmp_path / name
    download_stream(shards, folder, tmp_path / "work" / name, buffer=buffer, shares=shares, max_rows=max_rows)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ids(folder, split):
    return pq.read_table(folder / f"{split}.parquet")["id"].to_pylist()


def all_ids(folder):
    return [one for split in ("train", "validation", "test") for one in ids(folder, split)]


def test_a_stream_has_the_rows_and_splits_of_a_copy(tmp_path, remote):
    write_shards(tmp_path / "source", [50, 41, 33])
    streamed = stream(remote(tmp_path / "source", "corpus"), tmp_path)
    copied = FilesReader(str(tmp_path / "source"), ANYWHERE, COLUMNS, LIMITS, RETRIES, tmp_path).read()
    download(copied, tmp_path / "copied", shares=SHARES, by_time=False, max_rows=None)
    for split in ("train", "validation", "test"):
        assert sorted(ids(streamed, split)) == sorted(ids(tmp_path / "copied", split)) != []
    assert ids(streamed, "train") != ids(tmp_path / "copied", "train")  # they are mixed
    assert not (tmp_path / "work").joinpath("raw").exists()  # nothing else is kept


def test_the_same_seed_gives_the_same_bytes_and_another_one_another_order(tmp_path, remote):
    write_shards(tmp_path / "source", [40, 40, 40])
    url = remote(tmp_path / "source", "corpus")
    once, again = stream(url, tmp_path, "once"), stream(url, tmp_path, "again")
    other = stream(url, tmp_path, "other", seed=2)
    assert contents(once) == contents(again)
    assert sorted(all_ids(other)) == sorted(all_ids(once)) and all_ids(other) != all_ids(once)


def test_a_row_comes_no_earlier_than_the_buffer_lets_it(tmp_path):
    write_shards(tmp_path / "source", [90])
    shards = file_shards(str(tmp_path / "source"), ANYWHERE, COLUMNS, LIMITS, RETRIES)
    folder = stream_shards(shards, tmp_path, "raw", Buffer(10, 1), shares=Shares(0.0, 0.0))
    order = [int(one[1:]) for one in ids(folder, "train")]
    # when the first row goes out ten are in the buffer and one has come, and so on
    assert all(row <= place + 10 for place, row in enumerate(order))
    assert sorted(order) == list(range(90)) != order
    assert max(place - row for place, row in enumerate(order)) > 10  # and some wait for long


class Counting:
    """A shard that counts the rows that were asked of it."""

    def __init__(self, shard):
        self._shard, self.asked = shard, 0
        self.name, self.split, self.version, self.digest = (
            shard.name,
            shard.split,
            shard.version,
            shard.digest,
        )

    def read(self):
        for article in self._shard.read():
            self.asked += 1
            yield article


def test_max_rows_reads_no_more_than_it_needs(tmp_path, remote):
    write_shards(tmp_path / "source", [60, 60, 60, 60, 60])
    url = remote(tmp_path / "source", "corpus")
    shards = [Counting(shard) for shard in file_shards(url, ANYWHERE, COLUMNS, LIMITS, RETRIES)]
    folder = stream_shards(shards, tmp_path, "few", Buffer(8, 1), max_rows=50)
    assert len(all_ids(folder)) == len(set(all_ids(folder))) == 50
    assert sum(shard.asked for shard in shards) <= 50 + 8 + 1
    assert set(all_ids(folder)) != set(all_ids(stream(url, tmp_path, "other", seed=4, max_rows=50)))


def test_splits_that_the_corpus_comes_with_get_their_share_of_max_rows(tmp_path):
    for split in ("train", "validation", "test"):
        write_shards(tmp_path / "source", [70, 70], prefix=split)
    folder = stream(tmp_path / "source", tmp_path, max_rows=100)
    assert [len(ids(folder, split)) for split in ("train", "validation", "test")] == [70, 10, 20]


class Breaking:
    """Shards whose store breaks off after so many rows of all of them together."""

    def __init__(self, shards, rows):
        self._left = rows
        self.shards = [Counting(shard) for shard in shards]
        for shard in self.shards:
            shard.read = partial(self._read, shard.read)

    def _read(self, read):
        for article in read():
            if not self._left:
                raise UnreachableError("the store does not answer")
            self._left -= 1
            yield article


def breaks_until_done(shards, rows, tmp_path, name, max_rows=None):
    """How often a stream of shards that break off after so many rows has to be begun anew."""
    for broken in range(100):
        try:
            stream_shards(Breaking(shards, rows).shards, tmp_path, name, Buffer(8, 1), max_rows)
        except UnreachableError:
            assert not (tmp_path / name).exists()
        else:
            return broken
    raise AssertionError("it comes no further")


@pytest.mark.parametrize(("max_rows", "fewest"), [(None, 4), (75, 2)])
@pytest.mark.parametrize("rows", [41, 44, 47, 50])
def test_after_every_break_it_ends_with_the_same_bytes(tmp_path, remote, max_rows, fewest, rows):
    write_shards(tmp_path / "source", [31, 30, 29, 30, 31, 30])
    url = remote(tmp_path / "source", "corpus")
    whole = contents(stream(url, tmp_path, "whole", max_rows=max_rows))
    shards = file_shards(url, ANYWHERE, COLUMNS, LIMITS, RETRIES)
    assert breaks_until_done(shards, rows, tmp_path, "broken", max_rows) >= fewest
    assert contents(tmp_path / "broken") == whole


def test_what_was_kept_of_another_corpus_is_not_gone_on_with(tmp_path, remote):
    write_shards(tmp_path / "source", [40, 40])
    url = remote(tmp_path / "source", "corpus")
    shards = file_shards(url, ANYWHERE, COLUMNS, LIMITS, RETRIES)
    with pytest.raises(UnreachableError):
        stream_shards(Breaking(shards, 60).shards, tmp_path, "raw", Buffer(8, 1))
    assert list((tmp_path / "work" / "raw").rglob("part-*.parquet"))
    write_shards(tmp_path / "changed", [40, 39])
    remote(tmp_path / "changed", "corpus")
    assert len(all_ids(stream(url, tmp_path, "raw"))) == 79


class FlakyFile(io.BytesIO):
    reads = 0

    def __init__(self, content):
        super().__init__(content)
        self.size = len(content)

    def read(self, size=-1):
        FlakyFile.reads += 1
        if FlakyFile.reads % 3 == 0:
            raise RuntimeError("connection reset")
        return super().read(size)


class Flaky(MemoryFileSystem):
    """A store that breaks off every third read."""

    def _open(self, path, mode="rb", **kwargs):
        return FlakyFile(super()._open(path, mode, **kwargs).getvalue())


def test_a_read_that_fails_is_tried_again_where_it_was(tmp_path, remote):
    write_shards(tmp_path / "source", [4000, 40])
    url = remote(tmp_path / "source", "corpus")
    whole = contents(stream(url, tmp_path, "whole", buffer_rows=500))
    fsspec.register_implementation("memory", Flaky, clobber=True)
    try:
        assert contents(stream(url, tmp_path, "flaky", buffer_rows=500)) == whole
    finally:
        fsspec.register_implementation("memory", MemoryFileSystem, clobber=True)
    assert FlakyFile.reads >= 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"\x1f\x8b not text", "expected text, found gzip"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b'{"docment": "x", "summary": "y", "id": 1}\n', "did you mean `docment`"),
        ("a.txt", b"text", "has no corpus in it"),
    ],
)
def test_what_is_no_corpus_is_refused_by_its_address(tmp_path, remote, name, content, message):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_bytes(content)
    with pytest.raises(PrecisError, match=message) as error:
        stream(remote(tmp_path / "source", "corpus"), tmp_path)
    assert "memory://" in str(error.value) and not (tmp_path / "raw").exists()


def test_nothing_at_the_address_is_told(tmp_path, remote):
    with pytest.raises(PrecisError, match="memory://nowhere not found"):
        stream("memory://nowhere", tmp_path)


def hub_folder(folder, counts=(30, 25)):
    """A folder in the hub's layout: two shards of training, one of test."""
    data = folder / "data"
    data.mkdir(parents=True)
    for number, count in enumerate(counts):
        table = pa.Table.from_pylist(rows(number * 100_000, count))
        pq.write_table(table, data / f"train-{number:05}-of-{len(counts):05}.parquet", row_group_size=10)
    pq.write_table(pa.Table.from_pylist(rows(1_000_000, 12)), data / "test-00000-of-00001.parquet")
    return folder


def hub_shards(folder, splits=None):
    splits = splits or {"train": "train", "validation": None, "test": "test"}
    return HubReader(str(folder), None, None, splits, COLUMNS, RETRIES).shards()


def test_a_dataset_of_the_hub_streams_shard_by_shard(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    shards = hub_shards(hub_folder(tmp_path / "dataset"))
    assert [shard.name for shard in shards] == ["train-0", "train-1", "test-0"]
    folder = stream_shards(shards, tmp_path, "raw", Buffer(8, 1))
    expected = {f"r{one}" for one in [*range(30), *range(100_000, 100_025)]}
    assert set(ids(folder, "train")) | set(ids(folder, "validation")) == expected and ids(
        folder, "validation"
    )
    assert sorted(ids(folder, "test")) == sorted(f"r{one}" for one in range(1_000_000, 1_000_012))


def test_a_dataset_that_broke_off_ends_with_the_same_bytes(tmp_path):
    dataset = hub_folder(tmp_path / "dataset")
    whole = contents(stream_shards(hub_shards(dataset), tmp_path, "whole", Buffer(8, 1)))
    assert breaks_until_done(hub_shards(dataset), 41, tmp_path, "raw") >= 1
    assert contents(tmp_path / "raw") == whole


def test_a_dataset_without_the_split_is_refused(tmp_path):
    dataset = hub_folder(tmp_path / "dataset")
    with pytest.raises(PrecisError, match="has no split 'dev'; there: test, train"):
        hub_shards(dataset, {"train": "train", "validation": "dev", "test": "test"})


@pytest.mark.faults
@pytest.mark.parametrize("layout", ["files", "hub"])
def test_killed_while_it_streams_it_ends_with_the_same_bytes(tmp_path, layout):
    """The stage itself, killed by SIGKILL again and again wherever it is."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for project in (whole, killed):
        project.mkdir()
        yaml = YAML()
        params = yaml.load((ROOT / "params.yaml").read_text())
        corpus = params["corpus"]
        corpus.update(source=layout, streaming=True, max_rows=None)
        corpus["shuffle"]["buffer_rows"] = 500
        corpus["columns"].update(references=None, group=None, time=None)
        corpus["files"]["path"] = str(tmp_path / "source")
        corpus["hub"].update(
            name=str(tmp_path / "source"), splits={"train": "train", "validation": None, "test": None}
        )
        with (project / "params.yaml").open("w") as file:
            yaml.dump(params, file)
    if layout == "hub":
        hub_folder(tmp_path / "source", counts=(5_000, 5_000))
    else:
        write_shards(tmp_path / "source", [4_000, 4_000, 4_000])
    command = [sys.executable, "-m", "precis.stages.download"]
    assert subprocess.run(command, cwd=whole).returncode == 0
    kills, parts = 0, 0
    while True:
        process = subprocess.Popen(command, cwd=killed, stderr=subprocess.DEVNULL)
        # not before it has got a little further, or a slow machine would never come to the end
        while process.poll() is None and count_parts(killed) < parts + 3:
            time.sleep(0.005)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills, parts = kills + 1, count_parts(killed)
    assert process.returncode == 0 and kills >= 5
    assert contents(killed / "data" / "raw") == contents(whole / "data" / "raw")
    assert not (killed / ".work" / "stream").exists()


def count_parts(project):
    return len(list((project / ".work" / "stream").glob("*/part-*.parquet")))
