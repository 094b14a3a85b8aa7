"""Texts that differ in a few words are found, others are not."""

import random

import numpy as np

from precis.corpora.near_duplicates import NearDuplicateSearch
from precis.execution.local import LocalEngine

SEARCH = NearDuplicateSearch(shingle_words=3, min_similarity=0.8, permutations=128, bands=16, seed=1)


def texts(number: int, length: int = 100) -> list[list[str]]:
    generator = random.Random(3)
    return [[f"w{generator.randrange(5_000)}" for _ in range(length)] for _ in range(number)]


def copies(documents: list[list[str]]) -> list[int]:
    digests = SEARCH.digests(documents)
    return SEARCH.earlier_copies(digests, SEARCH.band_keys(digests), LocalEngine()).tolist()


def test_a_text_with_one_word_changed_is_a_copy_of_the_first():
    documents = texts(50)
    changed = [*documents[7]]
    changed[50] = "other"  # 3 of 98 shingles change: similarity 95 / 101
    assert copies([*documents, changed, documents[7]])[50:] == [7, 7]


def test_texts_of_the_same_words_in_another_order_are_no_copies():
    documents = texts(200)
    shuffled = random.Random(4).sample(documents[0], k=100)
    assert set(copies([*documents, shuffled])) == {-1}


def test_similarities_are_those_of_the_sets_of_shingles():
    first = [f"a{n}" for n in range(102)]  # 100 shingles
    second = [*first[:52], *(f"b{n}" for n in range(50))]  # 50 of them, and 50 others: 50 / 150
    digests = SEARCH.digests([first, second])
    assert abs(np.mean(digests[0] == digests[1]) - 1 / 3) < 0.13  # three standard deviations of 128 hashes


def test_short_texts_are_compared_as_a_whole():
    assert copies([["one"], ["two"], ["one"], ["one", "two"]]) == [-1, -1, 0, -1]


def test_no_texts_have_no_copies():
    empty = np.empty((0, 128), dtype=np.uint32)
    assert len(SEARCH.earlier_copies(empty, np.empty((0, 16), dtype=np.uint64), LocalEngine())) == 0


def test_a_thousand_copies_of_one_text_are_all_found():
    assert copies([*texts(3), *texts(1) * 1_000])[3:] == [0] * 1_000
