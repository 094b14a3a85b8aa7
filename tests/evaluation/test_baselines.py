import itertools

from precis.evaluation.baselines import Lead, Longest, Oracle, RandomSentences, extract
from precis.evaluation.rouge import RougeConvention, RougeScorer

TEXT = "One two. Three four five six. Seven! Eight nine ten."
CONVENTION = RougeConvention(tokenizer="unicode", stemmer=False, summary_level="newline", references="best")


def test_lead_takes_the_first_sentences():
    assert Lead(2)(TEXT, []) == "One two.\nThree four five six."
    assert Lead(3)("", []) == ""


def test_longest_keeps_the_order_of_the_document():
    assert Longest(2)(TEXT, []) == "Three four five six.\nEight nine ten."


def test_random_sentences_are_the_same_for_the_same_document_and_seed():
    one = RandomSentences(2, seed=1)
    assert one(TEXT, []) == one(TEXT, [])
    assert len({RandomSentences(2, seed)(TEXT, []) for seed in range(20)}) > 2
    assert set(one(TEXT, []).split("\n")) <= {"One two.", "Three four five six.", "Seven!", "Eight nine ten."}


def test_the_oracle_of_one_sentence_is_the_best_sentence():
    scorer = RougeScorer(CONVENTION)
    for reference in ("seven eight nine", "four five", "two"):
        chosen = Oracle(1, CONVENTION)(TEXT, [reference])
        best = max(sum(scorer.score([reference], text)[:2]) for text in Lead(4)(TEXT, []).split("\n"))
        assert sum(scorer.score([reference], chosen)[:2]) == best


def test_the_oracle_adds_no_sentence_that_helps_nothing():
    assert Oracle(3, CONVENTION)(TEXT, ["seven"]) == "Seven!"
    assert Oracle(3, CONVENTION)(TEXT, ["nothing of it"]) == ""


def test_extracting_keeps_the_order_of_documents():
    pairs = [(f"Number {number}. Rest.", ["x"]) for number in range(200)]
    assert extract(Lead(1), pairs, map) == [
        f"Number {number}." for number in itertools.islice(itertools.count(), 200)
    ]
