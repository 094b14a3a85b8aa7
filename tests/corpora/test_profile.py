"""Drift is an alarm when it is real, and only then."""

import random
import string
import tempfile
from itertools import pairwise

import pyarrow as pa
import pytest

from precis.corpora.numbered_words import Lexicon, NumberedSplit, split_rows
from precis.corpora.profile import Profile, build_profile, compare
from precis.errors import PrecisError
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import Vocabulary

NUM_WORDS = 20_000


def spelled(number: int) -> str:
    generator = random.Random(number)
    return "".join(generator.choice(string.ascii_lowercase) for _ in range(3 + number % 7)) + "qx"[number % 2]


WORDS = [spelled(number) for number in range(NUM_WORDS)]
WEIGHTS = [1 / (rank + 3) for rank in range(NUM_WORDS)]


def documents(number: int, seed: int, mean_words: int = 40) -> list[str]:
    generator = random.Random(seed)
    return [
        " ".join(
            generator.choices(WORDS, WEIGHTS, k=max(5, int(generator.gauss(mean_words, mean_words / 3))))
        )
        for _ in range(number)
    ]


@pytest.fixture(scope="module")
def trained():
    training = documents(3_000, seed=1)
    counts: dict[str, int] = {}
    for document in training:
        for word in Tokenizer(lowercase=True).words(document):
            counts[word] = counts.get(word, 0) + 1
    vocabulary = Vocabulary.build(counts, 4_000, 2)
    return profile_of([(text, None) for text in training], vocabulary, 0.1), vocabulary


def profile_of(rows, vocabulary, copied_only):
    """The profile of documents with their groups."""
    documents, groups = zip(*rows, strict=True)
    columns = {"document": documents, "summary": documents, "group": pa.array(groups, pa.string())}
    lexicon = Lexicon(lowercase=True)
    with tempfile.TemporaryFile() as file:
        train = NumberedSplit(map(split_rows, pa.table(columns).to_batches(100)), lexicon, file)
        return build_profile(train, lexicon, vocabulary, True, copied_only)


@pytest.fixture(scope="module")
def held_out():
    return documents(3_000, seed=2)


def test_a_hundred_reshuffled_samples_raise_no_alarm(trained, held_out):
    generator = random.Random(3)
    verdicts = [compare(generator.sample(held_out, 250), *trained).verdict for _ in range(100)]
    assert verdicts == ["nothing"] * 100


def test_new_entities_in_a_tenth_of_the_documents_are_an_alarm_that_names_them(trained, held_out):
    generator = random.Random(4)
    names = ["Zorblax", "Quintavo", "Brimtal", "Vexolor"]
    changed = [
        f"{text} {generator.choice(names)}" if n % 10 == 0 else text for n, text in enumerate(held_out[:500])
    ]
    drift = compare(changed, *trained)
    assert drift.verdict == "rebuild the vocabulary"
    assert {name.lower() for name in names} <= set(drift.new_words)
    assert "10.0% of the documents have new names that training never saw, 0.0% were expected" in drift.reason


def test_entities_that_are_all_different_are_an_alarm_too(trained, held_out):
    changed = [
        f"{text} {spelled(10**6 + n).title()}zz {spelled(10**7 + n).title()}zz" if n % 10 == 0 else text
        for n, text in enumerate(held_out[:2_000])
    ]
    assert compare(changed, *trained).verdict == "rebuild the vocabulary"


def test_longer_documents_call_for_a_training_not_for_a_vocabulary(trained):
    training = documents(300, seed=1)  # the same words
    drift = compare([f"{text} {other}" for text, other in pairwise(training)], *trained)
    assert drift.verdict == "retrain"
    assert "words:" in drift.reason


def test_few_documents_say_nothing(trained, held_out):
    with pytest.raises(PrecisError, match="20 documents are too few to compare; 50"):
        compare(held_out[:20], *trained)


def test_words_of_one_group_only_are_expected_to_be_new_in_other_groups():
    # each of 200 groups has a word of its own in both of its documents
    rows = [(f"the usual text of group name{n // 2}x", str(n // 2)) for n in range(400)]
    vocabulary = Vocabulary.build({"the": 9}, 10, 1)
    assert profile_of(rows, vocabulary, 0.0).new_word_share == 1.0
    alone = [(text, None) for text, _ in rows]
    assert profile_of(alone, vocabulary, 0.0).new_word_share == 0.0


def test_what_is_saved_is_loaded_and_the_same_bytes(trained, held_out, tmp_path):
    profile, vocabulary = trained
    profile.save(tmp_path / "profile.json")
    profile.save(tmp_path / "again.json")
    assert (tmp_path / "profile.json").read_bytes() == (tmp_path / "again.json").read_bytes()
    loaded = Profile.load(tmp_path / "profile.json")
    assert compare(held_out[:100], loaded, vocabulary) == compare(held_out[:100], profile, vocabulary)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1}', '{"format": 1, "known_words": "?"}'])
def test_something_else_is_no_profile(tmp_path, content):
    (tmp_path / "profile.json").write_text(content)
    with pytest.raises(PrecisError, match="is no profile"):
        Profile.load(tmp_path / "profile.json")
