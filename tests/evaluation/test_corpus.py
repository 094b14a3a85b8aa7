import pytest

from precis.evaluation.corpus import CorpusEvaluation, Summarized
from precis.evaluation.results import write_by_length
from precis.evaluation.rouge import RougeConvention, parallel_rouge
from precis.evaluation.statistics import WordOrigin

CONVENTION = RougeConvention(stemmer=False, summary_level="newline", references="best", tokenizer="unicode")
KNOWN = {"a", "b", "c"}.__contains__


@pytest.fixture
def evaluation():
    with parallel_rouge(CONVENTION, 1) as rouge:
        found = CorpusEvaluation(rouge, str.split, KNOWN, length_bounds=[3, 10])
        found.add(
            [
                Summarized("a b", ["a zz"], "a b", origins=[WordOrigin("copied", 1.0, 0.2)] * 2),
                Summarized("a b c d e f g h i j k", ["c yy"], "yy c c", origins=[
                    WordOrigin("unsupported", 0.0, 0.8), *[WordOrigin("generated", 0.1, 0.8)] * 2
                ]),
            ]
        )  # fmt: skip
        found.add([Summarized("b", ["b"], "", origins=[])])
    return found


def test_the_documents_of_each_length_have_statistics_of_their_own(evaluation):
    short, long = evaluation.by_length()  # none of 3 to 9 words
    assert (short.first, short.beyond, long.first, long.beyond) == (0, 3, 10, None)
    assert short.metrics["num_documents"] == 2 and long.metrics["num_documents"] == 1
    assert short.metrics["rouge1"] == pytest.approx(100 * (0.5 + 0.0) / 2)
    assert long.metrics["rouge1"] == pytest.approx(100 * 2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert (short.metrics["oov_recall"], long.metrics["oov_recall"]) == (0.0, 1.0)  # zz is not, yy is
    assert (short.metrics["copy_rate"], long.metrics["copy_rate"]) == (1.0, 0.0)
    assert (short.metrics["unsupported_rate"], long.metrics["unsupported_rate"]) == (0.0, 1 / 3)
    assert (short.metrics["empty_summaries"], long.metrics["empty_summaries"]) == (0.5, 0.0)
    assert (short.metrics["p_gen_mean"], long.metrics["p_gen_mean"]) == pytest.approx((0.2, 0.8))


def test_the_whole_is_the_sum_of_its_lengths(evaluation):
    whole = evaluation.metrics(resamples=100, confidence=0.95, seed=1)
    buckets = [bucket.metrics for bucket in evaluation.by_length()]
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum", "mean_length", "empty_summaries"):
        weighted = sum(bucket["num_documents"] * bucket[name] for bucket in buckets) / 3
        assert whole[name] == pytest.approx(weighted)
    assert whole["p_gen_mean"] == pytest.approx((2 * 0.2 + 3 * 0.8) / 5)
    assert whole["oov_recall"] == 1 / 2


def test_the_table_has_a_column_for_each_of_them(evaluation, tmp_path):
    import csv

    write_by_length(evaluation, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        short, long = csv.DictReader(file)
    assert (short["document_words"], long["document_words"]) == ("0-2", "10+")
    assert float(long["unsupported_rate"]) == pytest.approx(1 / 3, abs=1e-4)
    assert short["num_documents"] == "2"
