"""Rows stay in the split where they are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from precis.corpora.article import Article, stable_hash
from precis.corpora.splits import Shares, group_of, pick, split_by_hash, split_by_time


def test_hashes_are_the_same_everywhere():
    # hashlib.blake2b(b"a", digest_size=8, person=b"split").hexdigest()
    assert stable_hash("a", "split") == 0xB0CA539395632116
    assert stable_hash("a", "split") != stable_hash("a", "pick")


def test_shares_are_roughly_met():
    splits = [split_by_hash(f"group {number}", Shares(0.1, 0.2)) for number in range(20_000)]
    # three standard deviations of 20,000 draws are 0.85 %
    assert abs(splits.count("test") / 20_000 - 0.2) < 0.009
    assert abs(splits.count("validation") / 20_000 - 0.1) < 0.009


def test_a_larger_share_of_test_moves_no_row_out_of_test():
    for number in range(1_000):
        if split_by_hash(str(number), Shares(0.1, 0.1)) == "test":
            assert split_by_hash(str(number), Shares(0.1, 0.3)) == "test"


def test_without_a_group_copies_stay_together():
    first, second = Article("1", "The  same\ntext.", "a"), Article("2", "the same text.", "b")
    assert group_of(first) == group_of(second)
    assert group_of(Article("3", "x", "y", group="thread 7")) == "thread 7"


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, min_size=1), st.integers(1, 100))
def test_so_many_rows_are_picked_and_more_rows_mean_more_of_the_same(hashes, max_rows):
    array = np.array(hashes, dtype=np.uint64)
    picked = {number for number in hashes if number <= pick(array, max_rows)}
    assert len(picked) == min(max_rows, len(hashes))
    assert picked <= {number for number in hashes if number <= pick(array, max_rows + 1)}


def test_all_are_picked_without_a_limit():
    assert pick(np.array([1, 2**64 - 1], dtype=np.uint64), None) == 2**64 - 1


def test_the_newest_rows_are_the_test_set():
    times = np.arange(100.0)
    validation, test = split_by_time(times, Shares(0.1, 0.2))
    assert (validation, test) == (70.0, 80.0)
    assert split_by_time(times, Shares(0.0, 0.0)) == (np.inf, np.inf)
