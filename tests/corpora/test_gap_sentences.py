"""Which sentences of a document are its gap sentences."""

from precis.corpora.gap_sentences import GapSentences

DOCUMENT = (
    "Hello there. The harbour of Oslo will close for repairs in May. "
    "A sandwich costs three euros more today. Repairs of the harbour in Oslo begin in May, the city says. Thanks."
)


def test_what_shares_most_with_the_rest_is_left_out_and_to_be_written():
    (sentence, rest), (second, _) = GapSentences(2, max_words=100, max_summary_words=20).pairs(DOCUMENT)
    assert sentence == "The harbour of Oslo will close for repairs in May."
    assert second == "Repairs of the harbour in Oslo begin in May, the city says."
    assert sentence not in rest and second in rest and rest.startswith("Hello there.")


def test_what_is_not_read_is_not_asked_for():
    pairs = GapSentences(5, max_words=12, max_summary_words=20).pairs(DOCUMENT)
    assert pairs == []  # two sentences are within twelve words
    pairs = GapSentences(5, max_words=15, max_summary_words=20).pairs(DOCUMENT)
    assert [sentence for sentence, _ in pairs] == [
        "The harbour of Oslo will close for repairs in May.",
        "A sandwich costs three euros more today.",
    ]


def test_a_long_sentence_is_cut_and_a_much_longer_one_is_none():
    assert GapSentences(1, 100, max_summary_words=6).pairs(DOCUMENT)[0][0] == "The harbour of Oslo will close"
    assert GapSentences(1, 100, max_summary_words=4).pairs(DOCUMENT)[0][0] == "A sandwich costs three"
