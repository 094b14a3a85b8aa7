"""The id of an answer is a function of model, document, summary and settings, and of nothing else."""

import pytest
from tiny_model import DOCUMENTS, write_model

from precis.serving.answer_id import AnswerId
from precis.serving.summarizer import Summarizer

DIGEST = "ab" * 32


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"), "pointer")


def ids(summarizer, documents, **decoding):
    return [AnswerId.parse(summary.summary_id) for summary in summarizer.summarize(documents, **decoding)]


def test_an_id_names_model_document_summary_and_settings(model):
    summarizer = Summarizer.load(model, digest=DIGEST)
    for document, summary in zip(DOCUMENTS, summarizer.summarize(DOCUMENTS), strict=True):
        answer = AnswerId.parse(summary.summary_id)
        assert str(answer) == summary.summary_id == summary.as_dict()["summary_id"]
        assert DIGEST.startswith(answer.model)
        assert answer.is_of_document(document) and not answer.is_of_document(document + " ")
        assert answer.is_summary(summary.text) and not answer.is_summary(summary.text + ".")


def test_the_same_question_has_the_same_id_alone_or_among_others(model):
    summarizer = Summarizer.load(model, digest=DIGEST)
    together = ids(summarizer, DOCUMENTS)
    assert together == [ids(summarizer, [document])[0] for document in DOCUMENTS]
    assert len(set(together)) == len(DOCUMENTS)


def test_other_settings_or_files_are_another_id(model):
    (one,) = ids(Summarizer.load(model, digest=DIGEST), DOCUMENTS[:1])
    (greedy,) = ids(Summarizer.load(model, digest=DIGEST), DOCUMENTS[:1], beam_size=1)
    (other,) = ids(Summarizer.load(model, digest="cd" * 32), DOCUMENTS[:1])
    assert greedy.settings != one.settings and greedy.document == one.document
    assert other.model != one.model and other.summary == one.summary


def test_the_empty_document_and_half_a_character_have_ids_too(model):
    summarizer = Summarizer.load(model, digest=DIGEST)
    assert None not in ids(summarizer, ["", "half of a pair: \ud83d"])


def test_without_a_digest_of_the_files_there_is_no_id(model):
    (summary,) = Summarizer.load(model).summarize(DOCUMENTS[:1])
    assert summary.summary_id is None
    assert "summary_id" not in summary.as_dict()


@pytest.mark.parametrize("text", ["", "sum-1", "sum-" + "g" * 12, "models:/precis@champion"])
def test_other_texts_are_no_ids(text):
    assert AnswerId.parse(text) is None
