"""The vocabulary of the training split, and what can be written with it."""

import json

import numpy as np
import pytest

from precis.corpora.article import PREPARED_SCHEMA, SPLITS, batches, parquet_writer
from precis.corpora.ceilings import ReachCounter, in_words
from precis.errors import PrecisError
from precis.execution.local import LocalEngine
from precis.stages.vocabulary import Cut, build_vocabularies
from precis.text.vocabulary import Vocabulary


class Row:
    def __init__(self, number, document, summary):
        self.id, self.document, self.summary = str(number), document, summary
        self.references, self.group = [summary], None


def write(folder, **splits):
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        with parquet_writer(folder / f"{split}.parquet", PREPARED_SCHEMA) as writer:
            rows = [Row(number, *pair) for number, pair in enumerate(splits.get(split, [("a b", "a")]))]
            for batch in batches(rows, PREPARED_SCHEMA):
                writer.write_batch(batch)


def build(folder, shared=True, target_max_length=10, **splits):
    write(folder / "prepared", **splits)
    return build_vocabularies(
        folder / "prepared",
        folder / "vocabulary",
        folder / "vocabulary.json",
        cut=Cut(shared=shared, source_size=6, target_size=6, min_count=1),
        lowercase=True,
        source_max_length=4,
        target_max_length=target_max_length,
        max_truncated_share=0.2,
        engine=LocalEngine(),
    )


def test_words_are_reached_by_generating_or_copying_or_not_at_all():
    # the, cat, saw and manuls, of which a vocabulary may have the first two; the document has cat and manuls
    counter = ReachCounter(max_rank=3)
    counter.add(np.array([0, 1, 3, 3]), np.array([False, True, False, True]))
    small, large = counter.reach(1, 5), counter.reach(3, 7)
    # with "the": cat and manuls are copied, saw is out of reach; with all three: the and cat generated
    assert (small.generated, small.copied_only, small.neither) == (0.25, 0.5, 0.25)
    assert (large.generated, large.copied_only, large.neither) == (0.5, 0.25, 0.25)
    assert large.copyable_share_of_oovs == 0.5
    assert in_words("test", large) == (
        "With 7 words a model that only generates cannot write 50.0% of the words of the test summaries; "
        "one that copies can take 50% of those from the document."
    )


def test_the_report_counts_by_hand(tmp_path):
    train = [("the cat sat on the mat", "the cat"), ("the dog sat", "the dog")]
    report = build(tmp_path, train=train, test=[("a manul sat there unseen", "manul sat unseen")])
    vocabulary = Vocabulary.load(tmp_path / "vocabulary/shared.txt")
    # the 5, then cat, dog and sat 2 each: two words beside the four special tokens
    assert [vocabulary.word(4), vocabulary.word(5)] == ["the", "cat"]
    test = report["splits"]["test"]
    # of "manul sat unseen" none is in the vocabulary; the model reads "a manul sat there"
    assert (test["generated"], test["copied_only"], test["neither"]) == (
        0.0,
        round(2 / 3, 6),
        round(1 / 3, 6),
    )
    assert test["source_truncated_share"] == 0.2
    assert json.loads((tmp_path / "vocabulary.json").read_text()) == report


def test_only_the_training_split_decides(tmp_path):
    train = [("one two three", "one"), ("two three four", "two")]
    build(tmp_path / "a", train=train)
    build(
        tmp_path / "b", train=train, test=[("secret " * 9, "secret")], validation=[("hidden " * 9, "hidden")]
    )
    for name in ("shared.txt", "profile.json"):
        texts = [(tmp_path / folder / "vocabulary" / name).read_bytes() for folder in ("a", "b")]
        assert texts[0] == texts[1]


def test_separate_vocabularies_are_of_their_own_texts(tmp_path):
    build(tmp_path, shared=False, train=[("one one two", "three")])
    assert "three" in Vocabulary.load(tmp_path / "vocabulary/target.txt")
    assert "three" not in Vocabulary.load(tmp_path / "vocabulary/source.txt")


def test_summaries_that_are_cut_too_much_are_refused(tmp_path):
    with pytest.raises(
        PrecisError, match=r"cuts off 66\.7% of the words of the training summaries.*4 would cut one"
    ):
        build(tmp_path, target_max_length=2, train=[("one two three", "a b c")])
    assert not (tmp_path / "vocabulary").exists()
