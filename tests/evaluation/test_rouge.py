import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer as Reference

from precis.evaluation.rouge import ROUGE_TYPES, RougeConvention, RougeScorer, parallel_rouge

ASCII = "The cat's 2 paws ran, running over O'Neil_s hats. New\nline: Cats & generously organised dogs!"
PLAIN = RougeConvention(tokenizer="unicode", stemmer=False, summary_level="newline", references="best")
MIXED = ASCII + " “Curly” quotes — naïve Zürich, 3½ °C… don’t İstanbul\u00a0Kelvin ❤️ नमस्ते 日本語"


def texts(count: int, seed: int = 0, of: str = ASCII) -> list[str]:
    generator = np.random.default_rng(seed)
    words = of.replace("\n", " ").split()
    return [
        " ".join(generator.choice(words, size=generator.integers(0, 25))).replace(". ", ".\n")
        for _ in range(count)
    ]


@pytest.mark.parametrize("stemmer", [False, True])
@pytest.mark.parametrize(("tokenizer", "of"), [("unicode", ASCII), ("rouge-score", MIXED)])
@pytest.mark.parametrize("references", ["best", "mean"])
def test_scores_are_those_of_rouge_score(stemmer, tokenizer, of, references):
    convention = RougeConvention(
        stemmer=stemmer, summary_level="newline", references=references, tokenizer=tokenizer
    )
    ours = RougeScorer(convention)
    theirs = Reference(list(ROUGE_TYPES), use_stemmer=stemmer)
    for one, other, summary in zip(texts(60, 1, of), texts(60, 2, of), texts(60, 3, of), strict=True):
        alone = [theirs.score(reference, summary) for reference in (one, other)]
        expected = [[score[name].fmeasure for name in ROUGE_TYPES] for score in alone]
        for references_, values in (
            ([one], expected[0]),
            ([one, other], np.max(expected, 0) if references == "best" else np.mean(expected, 0)),
        ):
            np.testing.assert_allclose(ours.score(references_, summary), values, rtol=0, atol=1e-9)
    if references == "best":
        several = theirs.score_multi([one, other], summary)
        np.testing.assert_allclose(
            ours.score([one, other], summary), [several[name].fmeasure for name in ROUGE_TYPES], atol=1e-9
        )


def test_marks_that_are_no_letters_change_nothing_against_rouge_score():
    reference, summary = "“Well—said…” it’s 5 °C", "well said, it's 5 C • ❤️ \u00a0€"
    expected = Reference(list(ROUGE_TYPES)).score(reference, summary)
    assert RougeScorer(PLAIN).score([reference], summary) == pytest.approx(
        tuple(expected[name].fmeasure for name in ROUGE_TYPES), abs=1e-12
    )


@pytest.mark.parametrize("summary_level", ["newline", "sentences"])
@pytest.mark.parametrize("stemmer", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "भारत ने मैच जीत लिया। वह खुश है।",
        "বাংলা ভাষা",
        "Ελληνικά κείμενα",
        "日本は勝った。東京です。",
        "中国经济增长",
        "ภาษาไทยไม่มีช่องว่าง",
        "ភាសាខ្មែរ",
        "한국어 텍스트",
        "עברית יפה",
        "Zürich naïve 2024",
        "ru: привет",
        "عاصمة مصر",
        "தமிழ் மொழி",
    ],
)
def test_text_of_any_script_is_equal_to_itself(text, stemmer, summary_level):
    convention = RougeConvention(stemmer, summary_level, "best", "unicode")
    assert RougeScorer(convention).score([text], text) == (1.0, 1.0, 1.0, 1.0)
    assert Reference(["rouge1"]).score("भारत ने", "भारत ने")["rouge1"].fmeasure == 0.0  # why it needs ours


def test_scripts_without_spaces_are_compared_by_character():
    # three of the four characters of each are in the other
    assert RougeScorer(PLAIN).score(["中国经济"], "中国经贸")[0] == pytest.approx(3 / 4)
    assert RougeScorer(PLAIN).score(["GPT模型"], "gpt 模型")[:3] == (1.0, 1.0, 1.0)
    # a mark belongs to its letter
    assert RougeScorer(PLAIN).score(["ที่นี่"], "ที นี")[0] == 0.0


def test_composed_and_decomposed_letters_are_the_same():
    assert RougeScorer(PLAIN).score(["caf\u00e9 na\u00efve"], "cafe\u0301 nai\u0308ve") == (
        1.0,
        1.0,
        1.0,
        1.0,
    )


def test_several_references_give_the_best_or_the_mean():
    references = ["a b c d", "a b x y"]
    best = RougeScorer(PLAIN).score(references, "a b c d")
    assert best[0] == 1.0
    mean = RougeScorer(RougeConvention(False, "newline", "mean", "unicode")).score(references, "a b c d")
    assert mean[0] == pytest.approx((1.0 + 0.5) / 2)


def test_sentence_cutting_matters_to_rouge_lsum_alone():
    reference, summary = "One is here. Two is there.", "Two is there. One is here."
    by_line = RougeScorer(PLAIN).score([reference], summary)
    by_sentence = RougeScorer(RougeConvention(False, "sentences", "best", "unicode")).score(
        [reference], summary
    )
    assert by_line[:3] == by_sentence[:3]
    assert by_line[3] < by_sentence[3] == 1.0


def test_the_signature_names_every_choice():
    convention = RougeConvention(True, "sentences", "mean", "unicode")
    assert convention.signature == "rouge-score:0.1.2|F1|stem:yes|Lsum:sentences|refs:mean|tok:unicode"
    as_rouge_score = RougeConvention(False, "newline", "best", "rouge-score")
    assert as_rouge_score.signature == "rouge-score:0.1.2|F1|stem:no|Lsum:newline|refs:max|tok:rouge-score"


def test_processes_change_nothing():
    pairs = [([a], b) for a, b in zip(texts(150, 3), texts(150, 4), strict=True)]
    with parallel_rouge(PLAIN, 1) as one:
        alone = one.score(pairs).values
    for processes in (2, 0):
        with parallel_rouge(PLAIN, processes) as several:
            np.testing.assert_array_equal(several.score(pairs).values, alone)
    assert alone.shape == (150, 4)
