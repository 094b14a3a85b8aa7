"""Extended ids of one document, both ways."""

from hypothesis import given
from hypothesis import strategies as st

from precis.text.source_oovs import extend_source, extend_target, words_of
from precis.text.vocabulary import UNK_ID, Vocabulary

VOCABULARY = Vocabulary.build({"the": 3, "cat": 2}, size=6, min_count=1)  # the 4, cat 5, V = 6


def test_source_oovs_are_numbered_by_first_appearance():
    ids, oovs = extend_source(["the", "manul", "saw", "manul", "cat"], VOCABULARY)
    assert ids == [4, 6, 7, 6, 5]
    assert oovs == ["manul", "saw"]


def test_a_target_word_that_only_the_source_has_gets_the_source_id():
    assert extend_target(["cat", "saw", "dog"], VOCABULARY, ["manul", "saw"]) == [5, 7, UNK_ID]


@given(st.lists(st.sampled_from(["the", "cat", "manul", "saw", "dog"])))
def test_extended_ids_stand_for_the_words(words):
    ids, oovs = extend_source(words, VOCABULARY)
    assert words_of(ids, VOCABULARY, oovs) == words
    assert extend_target(words, VOCABULARY, oovs) == ids
