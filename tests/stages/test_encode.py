"""Ids of a small corpus, by hand."""

from test_vocabulary import write

from precis.batches.encoded import EncodedCorpus
from precis.execution.local import LocalEngine
from precis.stages.encode import encode
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import UNK_ID, Vocabulary


def run(folder, source, target, gap_sentences=0, **splits):
    write(folder / "prepared", **splits)
    counts = encode(
        folder / "prepared",
        folder / "encoded",
        source_vocabulary=source,
        target_vocabulary=target,
        tokenizer=Tokenizer(lowercase=True),
        source_max_length=5,
        target_max_length=4,
        gap_sentences=gap_sentences,
        engine=LocalEngine(),
    )
    assert counts["train"] == len(splits["train"])
    return EncodedCorpus(folder / "encoded/train.arrow")


def test_a_shared_vocabulary_gives_unknown_words_extended_ids(tmp_path):
    words = Vocabulary.build({"the": 3, "cat": 2}, 6, 1)  # the 4, cat 5, V = 6
    corpus = run(
        tmp_path, words, words, train=[("The manul saw THE cat sleep", "Manul saw a cat"), ("cat", "cat")]
    )
    row = corpus[0]
    assert row.source_ids.tolist() == [4, UNK_ID, UNK_ID, 4, 5]
    assert row.source_extended_ids.tolist() == [4, 6, 7, 4, 5]
    assert corpus.source_oovs(0) == ["manul", "saw"]
    assert row.target_ids.tolist() == [6, 7, UNK_ID]  # three words and the end make four
    assert corpus.row_id(1) == "1" and corpus[1].num_oovs == 0


def test_separate_vocabularies_number_source_and_target_apart(tmp_path):
    source = Vocabulary.build({"cat": 3, "manul": 2, "the": 1}, 9, 1)
    target = Vocabulary.build({"the": 3}, 9, 1)  # V = 5
    row = run(tmp_path, source, target, train=[("the manul cat", "the cat")])[0]
    assert row.source_ids.tolist() == [6, 5, 4]
    assert row.source_extended_ids.tolist() == [4, 5, 6]
    assert row.target_ids.tolist() == [4, 6]


def test_gap_sentences_become_pairs_for_pretraining(tmp_path):
    words = Vocabulary.build({"the": 3, "cat": 2}, 6, 1)
    documents = [("Go. Now. The cat saw the manul. Bye.", "cat"), ("Only one sentence here.", "one")]
    run(tmp_path, words, words, gap_sentences=1, train=documents)
    corpus = EncodedCorpus(tmp_path / "encoded/pretraining.arrow")
    assert len(corpus) == 1 and corpus.row_id(0) == "0-gap1"
    # what is read of the document without the sentence, and the first three words of the sentence
    assert corpus.source_oovs(0) == ["go", "\uffed.", "now"]
    assert corpus[0].target_ids.tolist() == [4, 5, UNK_ID]


def test_without_pretraining_its_file_is_there_and_empty(tmp_path):
    words = Vocabulary.build({"the": 3}, 6, 1)
    run(tmp_path, words, words, train=[("One two. The cat saw the manul. Bye.", "cat")])
    assert len(EncodedCorpus(tmp_path / "encoded/pretraining.arrow")) == 0


def test_documents_without_gap_sentences_are_told_of(tmp_path, caplog):
    words = Vocabulary.build({"the": 3}, 6, 1)
    run(tmp_path, words, words, gap_sentences=2, train=[("The cat sees the manul.", "cat")])
    assert "there will be no pre-training" in caplog.text
    assert len(EncodedCorpus(tmp_path / "encoded/pretraining.arrow")) == 0
