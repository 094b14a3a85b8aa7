import json
import threading
import unicodedata

import numpy as np
import pytest
import torch
from tiny_model import DECODING, DOCUMENTS, write_model

from precis.errors import PrecisError
from precis.serving.summarizer import Summarizer
from precis.text.tokenizer import surface

MODELS = ["encoder_decoder", "attention", "pointer"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=MODELS)
def summarizer(request, tmp_path_factory):
    return Summarizer.load(write_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module")
def pointer(tmp_path_factory):
    return Summarizer.load(write_model(tmp_path_factory.mktemp("model"), "pointer"))


def many_documents(count: int) -> list[str]:
    generator = np.random.default_rng(0)
    words = " ".join(DOCUMENTS).split()
    return [" ".join(generator.choice(words, size=generator.integers(1, 80))) for _ in range(count)]


def test_every_copied_word_is_as_the_document_has_it(pointer):
    documents = DOCUMENTS + many_documents(200)
    copied = 0
    for document, summary in zip(documents, pointer.summarize(documents), strict=True):
        for token in summary.tokens:
            assert summary.text[token.start : token.end] == token.text
            if token.origin == "copied":
                copied += 1
                start, end = token.source
                assert document[start:end] == token.text
                assert document[start:end].lower() == surface(token.word)
            else:
                assert token.source is None
    assert copied > 100


HOSTILE = [
    "Two\r\nlines,\r\n\r\nCRLF and\ttabs\r\n",
    "No\u00a0break\u00a0spaces\u202fand\u2009thin ones",
    "Cafe\u0301 de\u0301compose\u0301 — A\u030angstro\u0308m, n\u0303",
    "\ufeffByte order mark, and one in\ufeffside",
    "İSTANBUL’da Straße ΟΔΟΣ ﬁnal Ǆ ŉ",  # lower-casing changes lengths
    "(Ⓐ) xⒷ,Ⓒ. ⅣⅨ",  # symbols that have a case
    "&amp; &lt;b&gt;bold&lt;/b&gt; &nbsp;x&#39;s <p class='a'>Text</p>",
    "👨‍👩‍👧‍👦 family 🇫🇷 ❤️ 👍🏽 done!!! ??",
    "नमस्ते दुनिया। ภาษาไทย 日本語です。 العربيّة עִבְרִית",
    "#Person1#: Hi!\n#Person2#: Hello, Mr. O'Neil-Smith. ||| #Person1#: <eos> bye",
    "1,234.56 $3.50 -7e-10 10:30am 2024-01-02 50% 0x1F v1.2.3 ½ ²",
    "state-of-the-art self.foo_bar(HTTPServer2)->List[int] a.b@c.example https://x.example/?q=1&r=2 C++ #42",
    "￭ joiner <￭> marks￭ themselves ￭￭ ￭.",
    "<unk> <s> </s> <pad> Unknown",
    "\u200bzero\u200bwidth \u200fright\u200e \u00adsoft\u00adhyphen \u2028separator",
    "Long " + "UPPER lower Title " * 60 + "END",
    "z̸a̸l̸g̸o̸ t̴e̴x̴t̴",
]


@pytest.mark.parametrize("generation", ["mixture", "pointer_only"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_every_copied_word_is_as_the_raw_text_has_it_whatever_is_in_it(tmp_path, generation, lowercase):
    directory = write_model(tmp_path, "pointer", generation=generation)
    text = json.loads((directory / "text.json").read_text())
    (directory / "text.json").write_text(json.dumps({**text, "lowercase": lowercase}))
    summarizer = Summarizer.load(directory)
    generator = np.random.default_rng(1)
    mixed = [" ".join(generator.choice(HOSTILE, size=3)) for _ in range(60)]
    copied: set[str] = set()
    for document, best in zip(HOSTILE + mixed, summarizer.summarize(HOSTILE + mixed, n_best=3), strict=True):
        for summary in (best, *best.alternatives):
            end = 0
            for token in summary.tokens:
                assert summary.text[token.start : token.end] == token.text
                assert summary.text[end : token.start].strip(" ") == ""  # nothing but spaces between
                end = token.end
                assert token.generated + token.copied == pytest.approx(token.probability, abs=1e-5)
                for attended in token.attended:
                    assert (
                        document[attended.start : attended.end].strip()
                        == document[attended.start : attended.end]
                        != ""
                    )
                if token.source is not None:
                    start, stop = token.source
                    assert document[start:stop] == token.text
                    form = token.text.lower() if lowercase else token.text
                    assert unicodedata.normalize("NFC", form) == surface(token.word)
                    assert stop <= summarizer.source_tokens(document)[-1].end
                    copied.add(token.text)
                assert (token.source is not None) == (token.origin == "copied")
            assert end == len(summary.text)
    assert len(copied) > 60
    assert any(text != text.lower() for text in copied)


def test_a_word_in_decomposed_letters_is_the_one_of_the_vocabulary(pointer):
    words = [token.text for token in pointer.source_tokens("Le cafe\u0301 \ufeff fin")]
    assert words == ["le", "café", "fin"]
    composed, decomposed = pointer.summarize(["Le café de Zürich", "Le cafe\u0301 de Zu\u0308rich"])
    assert [token.word for token in composed.tokens] == [token.word for token in decomposed.tokens]


def test_what_is_beyond_the_words_that_are_read_is_never_copied(pointer):
    document = "read this only. " * 15 + "SECRET tail"
    assert len(pointer.source_tokens(document)) == pointer.source_max_length == 60
    for summary in pointer.summarize([document] * 3, n_best=3, min_length=8):
        for one in (summary, *summary.alternatives):
            assert not {"secret", "tail"} & set(one.words)
            assert one.num_source_words == 60


def test_masses_add_up_to_the_probability(summarizer):
    for summary in summarizer.summarize(DOCUMENTS + many_documents(50)):
        for token in summary.tokens:
            assert token.generated + token.copied == pytest.approx(token.probability, abs=1e-5)
            assert 0 < token.probability <= 1 + 1e-6
            assert sum(attended.weight for attended in token.attended) <= 1 + 1e-5


def test_only_a_pointer_copies(summarizer):
    for summary in summarizer.summarize(DOCUMENTS):
        for token in summary.tokens:
            if summarizer.model.name != "pointer":
                assert token.copied == 0 and token.p_gen is None and token.origin != "copied"
                assert token.word in summarizer.target_vocabulary
            else:
                assert 0 <= token.p_gen <= 1


def test_words_that_are_nowhere_to_be_found_are_flagged(summarizer):
    seen = set()
    for document, summary in zip(DOCUMENTS, summarizer.summarize(DOCUMENTS, frequent_words=6), strict=True):
        words = set(summarizer.words(document)[: summarizer.source_max_length])
        for token in summary.tokens:
            seen.add(token.origin)
            id_ = summarizer.target_vocabulary.id(token.word)
            flagged = token.word not in words and id_ >= 6
            assert (token.origin == "unsupported") == (flagged and token.origin != "copied")
    assert "unsupported" in seen
    nothing = summarizer.summarize(DOCUMENTS, frequent_words=10**6)
    assert all(token.origin != "unsupported" for summary in nothing for token in summary.tokens)


def test_a_word_that_only_the_unread_rest_of_the_document_has_is_supported(tmp_path):
    summarizer = Summarizer.load(write_model(tmp_path, "attention"))
    document = "stops here. " * 30
    assert len(summarizer.source_tokens(document)) == summarizer.source_max_length
    before = summarizer.summarize(document, frequent_words=0)
    flagged = [token for token in before.tokens if token.origin == "unsupported"]
    assert flagged
    rest = " ".join(token.text.upper() for token in flagged)
    after = summarizer.summarize(f"{document} {rest}", frequent_words=0)
    assert after.text == before.text
    assert all(token.origin == "generated" for token in after.tokens)


def test_generated_words_are_written_as_they_usually_are(pointer):
    vocabulary = pointer.target_vocabulary
    for summary in pointer.summarize(many_documents(60)):
        for token in summary.tokens:
            if token.origin == "generated" and token.word in vocabulary and surface(token.word) == token.word:
                assert token.text == vocabulary.surface(vocabulary.id(token.word))


def test_the_batch_size_changes_nothing(summarizer):
    documents = DOCUMENTS + many_documents(40)
    together = summarizer.summarize(documents, batch_size=16)
    alone = [summarizer.summarize(document) for document in documents]
    assert [summary.text for summary in together] == [summary.text for summary in alone]
    np.testing.assert_allclose(
        [summary.score for summary in together], [summary.score for summary in alone], atol=1e-4
    )


def test_a_document_without_words_gets_the_empty_summary(summarizer):
    first, second = summarizer.summarize(["", " \n "])
    assert first.text == second.text == "" and first.tokens == ()
    assert summarizer.summarize([]) == []


def test_alternatives_come_when_asked_for(pointer):
    summary = pointer.summarize(DOCUMENTS[0], n_best=3)
    assert len(summary.alternatives) == 2
    scores = [summary.score, *(alternative.score for alternative in summary.alternatives)]
    assert scores == sorted(scores, reverse=True)
    json.dumps(summary.as_dict())


def test_banned_words_are_not_written(pointer):
    documents = many_documents(30)
    written = {word for summary in pointer.summarize(documents) for word in summary.words}
    banned = sorted(written)[: len(written) // 2]
    after = {word for summary in pointer.summarize(documents, banned_words=banned) for word in summary.words}
    assert not after & set(banned)
    assert any(word not in pointer.target_vocabulary for word in banned)  # words of the source alone, too


def test_attention_is_kept_when_asked_for(pointer):
    summary = pointer.summarize(DOCUMENTS[0], keep_attention=True)
    assert len(summary.attention) == len(summary.tokens)
    for row in summary.attention:
        assert len(row) == summary.num_source_words
        assert sum(row) == pytest.approx(1, abs=1e-5)
    assert pointer.summarize(DOCUMENTS[0]).attention is None


def test_the_training_run_is_named(pointer, tmp_path):
    assert pointer.summarize("one").run_id == "r1"
    directory = write_model(tmp_path, "pointer")
    summary = Summarizer.load(directory, run_id="r2", model_version="7").summarize("one")
    assert (summary.run_id, summary.model_version) == ("r2", "7")


def test_threads_do_not_disturb_each_other(pointer):
    documents = many_documents(12)
    expected = [summary.text for summary in pointer.summarize(documents)]
    found: dict[int, list[str]] = {}

    def work(number: int) -> None:
        found[number] = [summary.text for summary in pointer.summarize(documents)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(texts == expected for texts in found.values()) and len(found) == 4


def test_a_wrong_decoding_parameter_is_named(pointer):
    with pytest.raises(PrecisError, match="no decoding parameter beamsize"):
        pointer.summarize("one", beamsize=3)
    with pytest.raises(PrecisError, match="n_best 9"):
        pointer.summarize("one", n_best=9)


def test_what_is_no_model_directory_is_refused(tmp_path):
    with pytest.raises(PrecisError, match=r"text.json is missing"):
        Summarizer.load(tmp_path)
    (tmp_path / "text.json").write_text("{", encoding="utf-8")
    with pytest.raises(PrecisError, match="cannot be read as JSON"):
        Summarizer.load(tmp_path)
    (tmp_path / "text.json").write_text(
        json.dumps({"lowercase": True, "decoding": DECODING}), encoding="utf-8"
    )
    with pytest.raises(PrecisError, match="lacks shared, source_max_length"):
        Summarizer.load(tmp_path)


def test_pointer_only_writes_words_of_the_document(tmp_path):
    only = Summarizer.load(write_model(tmp_path, "pointer", generation="pointer_only"))
    for document, summary in zip(DOCUMENTS, only.summarize(DOCUMENTS), strict=True):
        assert set(summary.words) <= set(only.words(document))
        assert all(token.origin == "copied" for token in summary.tokens)


def test_samples_are_drawn_when_asked_for(pointer):
    documents = many_documents(5)
    found = pointer.summarize(documents, samples=3, seed=4, temperature=1.5, top_k=20)
    assert all(len(summary.alternatives) == 2 for summary in found)
    again = pointer.summarize(documents, samples=3, seed=4, temperature=1.5, top_k=20, batch_size=2)
    assert [summary.text for summary in found] == [summary.text for summary in again]
    assert len({one.text for summary in found for one in (summary, *summary.alternatives)}) > 5
    written = {word for summary in found for one in (summary, *summary.alternatives) for word in one.words}
    banned = sorted(written)[::2]
    assert any(word not in pointer.target_vocabulary for word in banned)
    without = pointer.summarize(documents, samples=3, seed=4, temperature=1.5, banned_words=banned)
    for summary in without:
        for one in (summary, *summary.alternatives):
            assert not set(banned) & set(one.words)


@pytest.mark.parametrize("name", MODELS)
def test_a_shortlist_of_all_words_changes_nothing(tmp_path, name):
    summarizer = Summarizer.load(write_model(tmp_path, name))  # every word counts as one of the summaries
    documents = DOCUMENTS + many_documents(20)
    plain = summarizer.summarize(documents)
    listed = summarizer.summarize(documents, shortlist=True)
    assert [summary.text for summary in plain] == [summary.text for summary in listed]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("samples", [0, 2])
def test_a_shortlist_keeps_to_words_of_summaries_and_of_the_document(tmp_path, int8, samples):
    in_summaries = {"over", "number", "of", "the"}
    summarizer = Summarizer.load(
        write_model(tmp_path, "pointer", summary_counts=dict.fromkeys(in_summaries, 3))
    )
    documents = many_documents(20)
    others = set()
    for document, summary in zip(
        documents, summarizer.summarize(documents, shortlist=True, int8=int8, samples=samples), strict=True
    ):
        words = set(summarizer.words(document)[:60])
        for one in (summary, *summary.alternatives):
            assert set(one.words) <= words | in_summaries
            others |= {word for word in one.words if word in summarizer.target_vocabulary} - in_summaries
        # what another document of the batch has changes nothing
        alone = summarizer.summarize(document, shortlist=True, int8=int8)
        if not samples:
            assert alone.text == summary.text
    assert others  # words of the document that no summary had are written, too


@pytest.mark.parametrize("way", ["int8", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_faster_arithmetic_changes_little(tmp_path, name, way):
    torch.set_num_threads(1)
    changes = {} if name == "encoder_decoder" else {"coverage": True, "attention": "additive"}
    summarizer = Summarizer.load(write_model(tmp_path, name, **changes))
    documents = DOCUMENTS + many_documents(100)
    plain, screened = summarizer.summarize(documents), summarizer.summarize(documents, **{way: True})
    equal = sum(one.text == other.text for one, other in zip(plain, screened, strict=True))
    # random weights have no favourites: small differences decide more often than in a trained model
    assert equal >= (0.9 if way == "int8" else 0.7) * len(documents)
    for one, other in zip(plain, screened, strict=True):
        if one.text == other.text:
            assert one.score == pytest.approx(other.score, abs=0.02)
