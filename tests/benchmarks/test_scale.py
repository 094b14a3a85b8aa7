"""What the benchmark of scale measures with: rows that differ, words that keep coming, parts that are shared out."""

import random
import sys
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from scale import slope
from scale_corpus import Expansion
from scale_workers import shared_out

from precis.corpora.article import Article


def articles():
    generator = random.Random(3)
    words = ["".join(generator.choices("abcdefgh", k=generator.randint(3, 8))) for _ in range(400)]
    return [
        Article(
            id=str(number),
            # a name of its own in every sentence, as in real corpora
            document=" ".join(
                f"{' '.join(generator.choices(words, k=9))} name{number}x{place}." for place in range(8)
            ),
            summary=" ".join(generator.choices(words, k=4)),
        )
        for number in range(150)
    ]


@pytest.fixture(scope="module")
def rows():
    return list(islice(Expansion(articles(), seed=1).rows(), 5_000))


def test_no_row_comes_twice_and_a_smaller_corpus_is_the_beginning_of_a_larger_one(rows):
    for column in ("id", "document"):
        assert len({row[column] for row in rows}) == len(rows)
    assert list(islice(Expansion(articles(), seed=1).rows(), 300)) == rows[:300]


def test_new_words_keep_coming_though_ever_more_rarely(rows):
    seen = set()
    new = []
    for start in range(0, 5_000, 1_000):
        words = {word for row in rows[start : start + 1_000] for word in row["document"].split()}
        new.append(len(words - seen))
        seen |= words
    assert new[0] > new[1] and all(number > 0 for number in new)


def test_parts_go_to_whoever_is_free():
    assert sorted(shared_out([3.0, 1.0, 1.0, 1.0], 2)) == [3.0, 3.0]
    assert shared_out([1.0], 1) == [1.0]


def test_the_slope_of_a_line_and_of_a_square():
    assert slope({10: 2.0, 100: 20.0, 1000: 200.0}) == pytest.approx(1.0)
    assert slope({10: 1.0, 100: 100.0}) == pytest.approx(2.0)
