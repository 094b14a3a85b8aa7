"""The evidence for the gate, from a tiny untrained model; and the behavioural checks on models that misbehave."""

import dataclasses
import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from precis.commands.promote import check_test_set
from precis.errors import PrecisError
from precis.evaluation.rouge import RougeConvention
from precis.registry.behaviour import UNKNOWN_NAME, failed_behaviours
from precis.registry.trial import TestSet
from precis.serving.summarizer import Summarizer

DOCUMENTS = [
    "The meeting with Zorblatt moved to Friday because room seven floods.",
    "Nobody has boots. The room floods, and Quibblesnatch moved the meeting.",
]
LIMITS = {"long_input_words": 10_000, "long_input_seconds": 60.0}


@pytest.fixture
def summarizer(make_model):
    return Summarizer.load(make_model(seed=3))


@pytest.fixture
def test_file(tmp_path):
    path = tmp_path / "data/prepared/test.parquet"
    path.parent.mkdir(parents=True)
    rows = [
        {"id": str(number), "document": text, "summary": "room floods"}
        for number, text in enumerate(DOCUMENTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_set_of(path):
    convention = RougeConvention(
        tokenizer="unicode", stemmer=False, summary_level="newline", references="best"
    )
    return TestSet(path, convention=convention, metric="rouge1", processes=1)


test_set_of.__test__ = False


def test_evidence_has_one_value_for_each_document_and_the_digest_of_the_test_set(summarizer, test_file):
    evidence = test_set_of(test_file).try_model(summarizer, "version 1", size_bytes=7, p95_seconds=0.1)
    assert evidence.test_digest == hashlib.sha256(test_file.read_bytes()).hexdigest()
    for values in (evidence.rouge, evidence.repetition, evidence.unsupported, evidence.empty):
        assert values.shape == (2,)
        assert np.isfinite(values).all()
    assert evidence.decoding["beam_size"] == 2


def test_the_lead_baseline_is_scored_in_points(test_file):
    """Of the second document, lead-1 is "Nobody has boots.": no word of "room floods". Of the first, both of 11."""
    assert test_set_of(test_file).lead_rouge(1) == pytest.approx([100 * 2 * (2 / 11) / (1 + 2 / 11), 0.0])


def test_a_test_set_that_changes_while_it_is_read_is_refused(summarizer, test_file, monkeypatch):
    test = test_set_of(test_file)
    test_file.write_bytes(test_file.read_bytes())  # the same bytes are no change
    test.try_model(summarizer, "version 1", size_bytes=7, p95_seconds=0.1)
    pq.write_table(pq.read_table(test_file).slice(0, 1), test_file)
    with pytest.raises(PrecisError, match="changed while version 1 was tried"):
        test.try_model(summarizer, "version 1", size_bytes=7, p95_seconds=0.1)


def test_a_test_set_that_dvc_does_not_know_is_refused(test_file, tmp_path):
    relative = test_file.relative_to(tmp_path)
    md5 = hashlib.md5(test_file.read_bytes()).hexdigest()
    lock = (
        "schema: '2.0'\nstages:\n  evaluate@pointer:\n    cmd: x\n    deps:\n"
        f"    - path: {relative.as_posix()}\n      hash: md5\n      md5: {md5}\n"
    )
    (tmp_path / "dvc.lock").write_text(lock)
    check_test_set(relative, tmp_path)
    (tmp_path / "dvc.lock").write_text(lock.replace(md5, "f" * 32))
    with pytest.raises(PrecisError, match=f"the test set changed: .* has MD5 {md5}"):
        check_test_set(relative, tmp_path)


def test_an_honest_model_fails_no_check(summarizer):
    assert failed_behaviours(summarizer, DOCUMENTS, **LIMITS) == ()


class Misbehaving(Summarizer):
    """Summarizes as it should, but for what `misbehave` does to the texts or summaries."""

    before = staticmethod(lambda text: text)
    after = staticmethod(lambda text, summary: summary)

    def summarize(self, texts, **options):
        summaries = super().summarize([self.before(text) for text in texts], **options)
        return [self.after(text, summary) for text, summary in zip(texts, summaries, strict=True)]


def misbehaving(summarizer, **how):
    changed = type(
        "Misbehaving", (Misbehaving,), {name: staticmethod(function) for name, function in how.items()}
    )
    summarizer.__class__ = changed
    return summarizer


def fail(message):
    raise ValueError(message)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            {"after": lambda text, s: dataclasses.replace(s, text=s.text + text[-1:])},
            "white space at the end changes 2",
        ),
        ({"before": lambda text: text if not text.isupper() else "room"}, "upper case changes"),
        ({"before": lambda text: text or fail("no words")}, "the empty document is not answered"),
        (
            {"before": lambda text: text[:5000] if len(text) < 9000 else ""},
            "10,000 words gets the empty summary",
        ),
    ],
)
def test_each_misbehaviour_is_named(summarizer, how, said):
    assert said in "; ".join(failed_behaviours(misbehaving(summarizer, **how), DOCUMENTS, **LIMITS))


def test_a_lost_name_is_named(make_model):
    def copies_a_name(summarizer):
        copied = [
            token.word
            for summary in summarizer.summarize(DOCUMENTS)
            for token in summary.tokens
            if token.source
        ]
        return "zorblatt" in copied or "quibblesnatch" in copied

    # an untrained model copies at random: take the first that copies a name
    copying = next(
        filter(
            copies_a_name,
            (Summarizer.load(make_model(seed=seed, generation="pointer_only")) for seed in range(100)),
        )
    )
    assert failed_behaviours(copying, DOCUMENTS, **LIMITS) == ()
    losing = misbehaving(
        copying, after=lambda text, s: dataclasses.replace(s, text=s.text.replace(UNKNOWN_NAME, "somebody"))
    )
    assert "an unknown name in the place of another is lost" in "; ".join(
        failed_behaviours(losing, DOCUMENTS, **LIMITS)
    )
