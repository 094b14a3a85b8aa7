import pytest

from precis.evaluation.sentences import sentences
from precis.evaluation.statistics import (
    Duplicates,
    OriginTotals,
    Totals,
    WordOrigin,
    copied_spans,
    degeneration_hints,
    document_statistics,
)

KNOWN = {"the", "cat", "sat", "on", "mat", "dog"}.__contains__


def count(summary: str, reference: str, source: str):
    return document_statistics(summary.split(), reference.split(), source.split(), known=KNOWN)


def test_oov_recall_counts_each_unknown_reference_word_as_often_as_it_is_there():
    found = count("zorro and zorro met zorro", "zorro saw zorro and qix", "")
    # unknown in the reference: zorro twice, saw, and, qix; the summary has zorro (at most twice) and "and"
    assert (found.oov_references, found.oov_recalled) == (5, 3)


def test_novel_ngrams_are_distinct_ngrams_that_the_source_has_not():
    found = count("the cat sat the cat ran", "the", "the cat sat on the mat")
    assert found.ngrams == (4, 4, 4, 3)
    # new words: ran; new pairs: sat the, cat ran; the last n-gram counts, too
    assert found.novel_ngrams == (1, 2, 3, 3)


def test_repeated_ngrams_count_every_further_occurrence():
    found = count("a b a b a b", "a", "a")
    assert found.repeated_ngrams == (4, 3, 2, 1)
    assert found.all_ngrams == (6, 5, 4, 3)


def test_copied_spans_are_the_longest_runs_found_in_the_source():
    source = ["a", "b", "c", "d", "e", "f"]
    assert copied_spans(["b", "c", "d", "x", "e", "f", "a"], source) == (3, 2)
    assert copied_spans(["f", "e", "d"], source) == ()
    assert copied_spans([], source) == ()


def test_totals_give_shares_over_all_documents():
    totals = Totals()
    totals.add(count("the zorro", "the zorro", "the zorro ran"))
    totals.add(count("", "qix", "the cat"))
    metrics = totals.metrics()
    assert metrics["oov_recall"] == 1 / 2
    assert metrics["empty_summaries"] == 1 / 2
    assert metrics["mean_length"] == 1.0
    assert metrics["length_ratio"] == 2 / 3
    assert metrics["copied_span_mean"] == 2.0
    assert Totals().metrics()["repetition"] == 0.0


def test_whole_sentences_of_the_document_are_counted():
    found = document_statistics(
        ["x"],
        ["x"],
        ["x"],
        known=KNOWN,
        summary_sentences=["The cat sat.", "A new one."],
        source_sentences=["the  cat sat", "Other."],
    )
    assert (found.whole_sentences, found.num_sentences) == (1, 2)


def test_origins_add_up():
    totals = OriginTotals()
    totals.add([WordOrigin("copied", 0.9, 0.2), WordOrigin("unsupported", 0.0, 0.6)])
    totals.add([WordOrigin("unsupported", 0.1, 0.4)])
    totals.add([WordOrigin("generated", 0.2, 0.4)])
    totals.add([])
    assert totals.metrics() == {
        "copy_rate": 1 / 4,
        "copied_mass": pytest.approx(1.2 / 4),
        "unsupported_rate": 2 / 4,
        "unsupported_summaries": 1 / 4,
        "p_gen_mean": pytest.approx(0.4),
    }
    assert "p_gen_mean" not in OriginTotals().metrics()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"most_common_summary": 0.5}, "the same summary was written for 50%"),
        ({"empty_summaries": 0.2}, "20% of the summaries are empty"),
        ({"repetition": 0.3}, "block_ngrams"),
        ({"unsupported_rate": 0.2}, "the pointer model"),
        ({"length_ratio": 3.0}, "3.0 times as long"),
        ({"length_ratio": 0.2}, "0.2 times as long"),
        ({"unsupported_summaries": 0.4}, "40% of the summaries have no word that the document has"),
        ({"oov_reference_rate": 0.3, "oov_recall": 0.01}, "raise vocabulary.target_size"),
    ],
)
def test_degenerate_output_gets_a_hint_at_the_cause(changed, message):
    healthy = {
        "num_documents": 100,
        "most_common_summary": 0.01,
        "empty_summaries": 0.0,
        "repetition": 0.0,
        "unsupported_rate": 0.0,
        "unsupported_summaries": 0.0,
        "oov_reference_rate": 0.3,
        "oov_recall": 0.2,
        "length_ratio": 1.0,
    }
    assert degeneration_hints(healthy) == []
    (hint,) = degeneration_hints({**healthy, **changed})
    assert message in hint


def test_duplicate_summaries_are_counted():
    duplicates = Duplicates()
    for summary in ("a", "a", "b", "a"):
        duplicates.add(summary)
    assert duplicates.metrics() == {"distinct_summaries": 0.5, "most_common_summary": 0.75}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See e.g. this one. And J. Smith.", ["See e.g. this one.", "And J. Smith."]),
        ("a\n\nb\n", ["a", "b"]),
        ("यह एक है। वह दो है।", ["यह एक है।", "वह दो है।"]),
        ("これは一。二です。", ["これは一。", "二です。"]),
        ('He said "no." Then left.', ['He said "no."', "Then left."]),
        ("Version 1.2.3 is out", ["Version 1.2.3 is out"]),
        ("", []),
    ],
)
def test_sentences_end_at_their_marks(text, expected):
    assert sentences(text) == expected
