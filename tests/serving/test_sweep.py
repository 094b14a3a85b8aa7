import numpy as np
import pytest
import torch
from tiny_model import DECODING, DOCUMENTS, write_model

from precis.commands.sweep import refuse_test
from precis.errors import PrecisError
from precis.evaluation.rouge import RougeConvention, RougeScorer, parallel_rouge
from precis.serving.summarizer import Summarizer
from precis.serving.sweep import grid, sweep

CONVENTION = RougeConvention(tokenizer="unicode", stemmer=False, summary_level="newline", references="best")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    torch.set_num_threads(1)
    summarizer = Summarizer.load(write_model(tmp_path_factory.mktemp("model"), "pointer"))
    documents = [document + f" item {number}" for number, document in enumerate(DOCUMENTS * 3)]
    references = [[" ".join(document.split()[:6])] for document in documents]
    settings = grid([1, 3], has_attention=True)
    with parallel_rouge(CONVENTION, 1) as rouge:
        found = sweep(
            summarizer,
            documents,
            references,
            settings,
            rouge,
            decoding=DECODING,
            batch_size=5,
            progress=lambda _: None,
        )
    return summarizer, documents, references, found


def test_two_hundred_settings_take_a_tenth_of_the_steps(swept):
    found = swept[3]
    assert len(found.scored) >= 200
    assert found.num_steps <= found.num_steps_one_by_one / 10


def test_each_score_is_that_of_decoding_with_the_setting(swept):
    summarizer, documents, references, found = swept
    scorer = RougeScorer(CONVENTION)
    for one in found.scored[:: len(found.scored) // 12]:
        summaries = summarizer.summarize(documents, batch_size=5, **{**DECODING, **one.setting.decoding})
        scores = [
            scorer.score(reference, summary.text)
            for reference, summary in zip(references, summaries, strict=True)
        ]
        expected = 100 * np.mean(scores, axis=0)
        assert (one.rouge1, one.rouge2, one.rougeL) == pytest.approx(tuple(expected[:3]), abs=1e-9)


def test_the_best_setting_has_the_highest_score(swept):
    found = swept[3]
    highest = max(one.rouge1 + one.rouge2 for one in found.scored)
    assert found.best.rouge1 + found.best.rouge2 == highest


def test_the_test_split_is_refused_under_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    (prepared / "test.parquet").write_bytes(b"rows")
    (prepared / "validation.parquet").write_bytes(b"other rows")
    (tmp_path / "innocent.parquet").write_bytes(b"rows")
    refuse_test(prepared / "validation.parquet")
    for name in ("data/prepared/test.parquet", "innocent.parquet"):
        with pytest.raises(PrecisError, match="is the test split"):
            refuse_test(tmp_path / name)
    with pytest.raises(PrecisError, match="not found"):
        refuse_test(tmp_path / "no.parquet")
