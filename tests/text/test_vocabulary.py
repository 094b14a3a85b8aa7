"""Words, ids and the file that keeps them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from precis.errors import PrecisError
from precis.text.tokenizer import JOINER, Tokenizer
from precis.text.vocabulary import BOS_ID, EOS_ID, PAD_ID, SPECIAL_TOKENS, UNK_ID, Vocabulary, fold_case


def test_the_most_frequent_words_are_kept_in_order_of_count_then_spelling():
    vocabulary = Vocabulary.build({"c": 2, "b": 5, "a": 2, "rare": 1}, size=6, min_count=1)
    assert [vocabulary.word(id_) for id_ in range(len(vocabulary))] == [*SPECIAL_TOKENS, "b", "a"]
    assert (vocabulary.count(4), vocabulary.count(5)) == (5, 2)


def test_rare_words_are_left_out():
    assert len(Vocabulary.build({"a": 2, "b": 1}, size=100, min_count=2)) == 5


def test_unknown_words_have_the_unknown_id():
    vocabulary = Vocabulary.build({"a": 1}, size=9, min_count=1)
    assert vocabulary.ids(["a", "b", "a"]) == [4, UNK_ID, 4]
    assert "b" not in vocabulary and vocabulary.id("b") == UNK_ID


def test_special_tokens_have_the_first_ids_and_cannot_be_written():
    assert (PAD_ID, UNK_ID, BOS_ID, EOS_ID) == (0, 1, 2, 3)
    words = Tokenizer(lowercase=True).words("<pad> <unk> <s> </s>")
    assert not set(words) & set(SPECIAL_TOKENS)


def test_case_is_folded_and_the_usual_written_form_is_kept():
    counts, surfaces = fold_case({"NaN": 3, "nan": 2, f"{JOINER}.": 4}, lowercase=True)
    assert counts == {"nan": 5, f"{JOINER}.": 4}
    assert surfaces == {"nan": "NaN", f"{JOINER}.": "."}
    assert fold_case({"NaN": 3, "nan": 2}, lowercase=False)[0] == {"NaN": 3, "nan": 2}


@given(st.text(max_size=80), st.booleans())
def test_what_is_saved_is_loaded(tmp_path_factory, text, lowercase):
    written = Tokenizer(lowercase=False).words(text.encode("utf-8", "ignore").decode())
    counts, surfaces = fold_case({word: written.count(word) for word in written}, lowercase)
    vocabulary = Vocabulary.build(counts, size=1000, min_count=1, surfaces=surfaces)
    path = tmp_path_factory.mktemp("vocabulary") / "words.txt"
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    ids = range(len(vocabulary))
    assert [(loaded.word(i), loaded.count(i), loaded.surface(i)) for i in ids] == [
        (vocabulary.word(i), vocabulary.count(i), vocabulary.surface(i)) for i in ids
    ]


@pytest.mark.parametrize(
    "content", ["", "word\n", "<pad>\t0\t<pad>\n", "a\t1\ta\n" * 5, "<pad>\t0\t<pad>"], ids=repr
)
def test_something_else_is_no_vocabulary(tmp_path, content):
    path = tmp_path / "source.txt"
    path.write_text(content)
    with pytest.raises(PrecisError, match="is no vocabulary"):
        Vocabulary.load(path)


def test_a_missing_vocabulary_says_what_to_run(tmp_path):
    with pytest.raises(PrecisError, match="dvc repro vocabulary"):
        Vocabulary.load(tmp_path / "absent.txt")
