"""Counting numbers gives what counting words one by one gives."""

import tempfile
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from precis.corpora.numbered_words import Lexicon, NumberedSplit, split_rows
from precis.corpora.word_counts import WordCounts
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import SPECIAL_TOKENS, Vocabulary, fold_case

WORDS = st.sampled_from(
    ["The", "the", "THE", "cat's", "a_b", "İstanbul", "ΑΣ", "naïve", "(x)", "...", "7", "日本"]
)
TEXTS = st.lists(st.lists(WORDS, max_size=9).map(" ".join), min_size=1, max_size=12)


def numbered(texts, lexicon, file, rows_at_once):
    documents, summaries, groups = zip(*texts, strict=True)
    columns = {"document": documents, "summary": summaries, "group": pa.array(groups, pa.string())}
    batches = pa.table(columns).to_batches(rows_at_once)
    return NumberedSplit(map(split_rows, batches), lexicon, file)


def saved(vocabulary, folder):
    vocabulary.save(folder / "words.txt")
    return (folder / "words.txt").read_bytes()


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS, st.booleans(), st.integers(5, 14), st.integers(1, 3), st.integers(1, 5))
def test_vocabularies_are_those_of_counting_words(
    tmp_path_factory, documents, others, lowercase, size, least, some
):
    folder = tmp_path_factory.mktemp("words")
    texts = [(document, others[n % len(others)], None) for n, document in enumerate(documents)]
    tokenizer = Tokenizer(lowercase=False)
    source = Counter(word for document, _, _ in texts for word in tokenizer.words(document))
    target = Counter(word for _, summary, _ in texts for word in tokenizer.words(summary))
    (source, written), (target, written_there) = fold_case(source, lowercase), fold_case(target, lowercase)
    both = dict(Counter(source) + Counter(target))
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as other_file:
        lexicon = Lexicon(lowercase)
        train = numbered(texts, lexicon, file, some)
        numbered([("unseen words", "elsewhere", None)], lexicon, other_file, 1)
        counts = WordCounts(lexicon, train)
        expected = Vocabulary.build(both, size, least, written | written_there, target)
        assert saved(counts.shared(size, least), folder) == saved(expected, folder)
        expected = Vocabulary.build(source, size, least, written)
        assert saved(counts.of_documents(size, least), folder) == saved(expected, folder)
        expected = Vocabulary.build(target, size, least, written_there)
        assert saved(counts.of_summaries(size, least), folder) == saved(expected, folder)
        ranked = [lexicon.words[number] for number in counts.ranked(False, least)]
        every = Vocabulary.build(target, len(target) + len(SPECIAL_TOKENS), least)
        assert ranked == [every.word(number) for number in range(len(SPECIAL_TOKENS), len(every))]


@pytest.mark.parametrize("rows_at_once", [1, 2, 5])
def test_what_was_read_comes_back_as_often_as_asked_for(rows_at_once):
    texts = [("The cat saw (x).", "The cat", "a"), ("", "nothing", None), ("the the THE", "", "a")]
    with tempfile.TemporaryFile() as file:
        lexicon = Lexicon(lowercase=True)
        split = numbered(texts, lexicon, file, rows_at_once)
        forms, tokenizer = lexicon.forms, Tokenizer(lowercase=False)
        for _ in range(2):
            read = [
                [forms[number] for number in some.documents.numbers[some.documents.rows == row]]
                for some in split
                for row in range(len(some.owners))
            ]
            assert read == [tokenizer.words(document) for document, _, _ in texts]
        owners = np.concatenate([some.owners for some in split])
        assert owners[0] == owners[2] != owners[1]


def test_texts_end_where_they_are_cut():
    with tempfile.TemporaryFile() as file:
        split = numbered([("a b c", "x", None), ("", "x", None), ("d", "x", None)], Lexicon(True), file, 3)
        (some,) = split
        rows, numbers = some.documents.beginnings(2)
        assert rows.tolist() == [0, 0, 2] and len(numbers) == 3
