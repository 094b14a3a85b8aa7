"""data/raw: the right rows in the right splits, whole or not at all."""

import json

import pyarrow.parquet as pq
import pytest

from precis.corpora.article import SPLITS, Article
from precis.corpora.splits import Shares
from precis.errors import PrecisError
from precis.stages.download import download

SHARES = Shares(validation=0.1, test=0.1)


def articles(number, **changes):
    return [Article(f"row-{n}", f"document {n}", f"summary {n}", **changes) for n in range(number)]


def run(folder, rows, by_time=False, max_rows=None, shares=SHARES):
    download(rows, folder, shares=shares, by_time=by_time, max_rows=max_rows)
    return {split: pq.read_table(folder / f"{split}.parquet")["id"].to_pylist() for split in SPLITS}


def test_more_rows_move_no_row_to_another_split(tmp_path):
    few, many = run(tmp_path / "few", articles(300)), run(tmp_path / "many", articles(600))
    for split in SPLITS:
        assert few[split] and set(few[split]) <= set(many[split])


def test_rows_of_a_group_are_in_one_split(tmp_path):
    rows = [Article(f"row-{n}", f"document {n}", "s", group=f"group {n // 10}") for n in range(500)]
    splits = run(tmp_path / "raw", rows)
    groups = {split: {int(row_id[4:]) // 10 for row_id in ids} for split, ids in splits.items()}
    assert sum(map(len, groups.values())) == 50


def test_max_rows_takes_so_many_and_keeps_their_order(tmp_path):
    some = run(tmp_path / "some", articles(500), max_rows=123)
    every = run(tmp_path / "all", articles(500))
    assert sum(map(len, some.values())) == 123
    for split in SPLITS:
        assert [row_id for row_id in every[split] if row_id in set(some[split])] == some[split]


def test_given_splits_are_kept_and_missing_ones_come_out_of_train(tmp_path):
    rows = [
        Article(f"{split}-{n}", f"{split} document {n}", "s", split=split)
        for split in ("train", "test")
        for n in range(200)
    ]
    splits = run(tmp_path / "raw", rows)
    assert len(splits["test"]) == 200 and all(row_id.startswith("test") for row_id in splits["test"])
    assert 5 < len(splits["validation"]) < 40
    assert len(splits["train"]) + len(splits["validation"]) == 200


def test_the_newest_rows_are_held_out(tmp_path):
    rows = [Article(f"row-{n}", f"document {n}", "s", time=float(n * 7 % 100)) for n in range(100)]
    splits = run(tmp_path / "raw", rows, by_time=True, shares=Shares(0.1, 0.2))
    times = {split: [int(row_id[4:]) * 7 % 100 for row_id in ids] for split, ids in splits.items()}
    assert max(times["train"]) < min(times["validation"]) <= max(times["validation"]) < min(times["test"])
    assert [len(splits[split]) for split in SPLITS] == [70, 10, 20]


def test_the_same_rows_are_the_same_bytes_and_the_checksums_say_so(tmp_path):
    run(tmp_path / "one", articles(100)), run(tmp_path / "two", articles(100))
    for name in ("train.parquet", "validation.parquet", "test.parquet", "checksums.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    sums = json.loads((tmp_path / "one/checksums.json").read_text())
    assert sum(sums[split]["rows"] for split in SPLITS) == 100


def test_a_reader_that_fails_leaves_what_was_there(tmp_path):
    def failing():
        yield from articles(50)
        raise PrecisError("the network is gone")

    before = run(tmp_path / "raw", articles(100))
    with pytest.raises(PrecisError, match="network"):
        run(tmp_path / "raw", failing())
    assert {s: pq.read_table(tmp_path / f"raw/{s}.parquet")["id"].to_pylist() for s in SPLITS} == before
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_no_rows_are_no_corpus(tmp_path):
    with pytest.raises(PrecisError, match="has no rows"):
        run(tmp_path / "raw", [])


def test_what_killed_runs_left_is_removed(tmp_path):
    (tmp_path / ".raw.abc.part").mkdir()
    (tmp_path / ".raw.abc.part/pool.parquet").write_text("half")
    run(tmp_path / "raw", articles(100))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
