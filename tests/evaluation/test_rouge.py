import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer as Reference

from precis.evaluation.rouge import ROUGE_TYPES, RougeConvention, RougeScorer, parallel_rouge

ASCII = "The cat's 2 paws ran, running over O'Neil_s hats. New\nline: Cats & generously organised dogs!"
PLAIN = RougeConvention(stemmer=False, summary_level="newline", references="best")


def texts(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    words = ASCII.replace("\n", " ").split()
    return [
        " ".join(generator.choice(words, size=generator.integers(0, 25))).replace(". ", ".\n")
        for _ in range(count)
    ]


@pytest.mark.parametrize("stemmer", [False, True])
def test_scores_of_ascii_text_are_those_of_rouge_score(stemmer):
    convention = RougeConvention(stemmer=stemmer, summary_level="newline", references="best")
    ours = RougeScorer(convention)
    theirs = Reference(list(ROUGE_TYPES), use_stemmer=stemmer)
    for reference, summary in zip(texts(60, 1), texts(60, 2), strict=True):
        expected = theirs.score(reference, summary)
        np.testing.assert_allclose(
            ours.score([reference], summary),
            [expected[name].fmeasure for name in ROUGE_TYPES],
            rtol=0,
            atol=1e-9,
        )


@pytest.mark.parametrize(
    "text",
    [
        "भारत ने मैच जीत लिया",
        "Ελληνικά κείμενα",
        "日本は 勝った",
        "Zürich naïve 2024",
        "ru: привет",
        "عاصمة مصر",
    ],
)
def test_text_of_any_script_is_equal_to_itself(text):
    assert RougeScorer(PLAIN).score([text], text) == (1.0, 1.0, 1.0, 1.0)
    assert Reference(["rouge1"]).score("भारत ने", "भारत ने")["rouge1"].fmeasure == 0.0  # why it needs ours


def test_several_references_give_the_best_or_the_mean():
    references = ["a b c d", "a b x y"]
    best = RougeScorer(PLAIN).score(references, "a b c d")
    assert best[0] == 1.0
    mean = RougeScorer(RougeConvention(False, "newline", "mean")).score(references, "a b c d")
    assert mean[0] == pytest.approx((1.0 + 0.5) / 2)
    theirs = Reference(list(ROUGE_TYPES)).score_multi(references, "x b c")
    ours = RougeScorer(PLAIN).score(references, "x b c")
    assert ours == pytest.approx(tuple(theirs[name].fmeasure for name in ROUGE_TYPES))


def test_sentence_cutting_matters_to_rouge_lsum_alone():
    reference, summary = "One is here. Two is there.", "Two is there. One is here."
    by_line = RougeScorer(PLAIN).score([reference], summary)
    by_sentence = RougeScorer(RougeConvention(False, "sentences", "best")).score([reference], summary)
    assert by_line[:3] == by_sentence[:3]
    assert by_line[3] < by_sentence[3] == 1.0


def test_the_signature_names_every_choice():
    signature = RougeConvention(stemmer=True, summary_level="sentences", references="mean").signature
    assert signature == "rouge-score:0.1.2|F1|stem:yes|Lsum:sentences|refs:mean|tok:unicode"


def test_processes_change_nothing():
    pairs = [([a], b) for a, b in zip(texts(150, 3), texts(150, 4), strict=True)]
    with parallel_rouge(PLAIN, 1) as one:
        alone = one.score(pairs).values
    with parallel_rouge(PLAIN, 2) as two:
        together = two.score(pairs).values
    np.testing.assert_array_equal(alone, together)
    assert alone.shape == (150, 4)
