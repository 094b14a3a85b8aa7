import dataclasses

import numpy as np
import pytest

from precis.registry.gate import Evidence, Thresholds, decide

NUM_DOCUMENTS = 200
THRESHOLDS = Thresholds(
    minimum_gain=0.0,
    max_repetition_increase=0.02,
    max_unsupported_increase=0.02,
    max_empty_increase=0.01,
    max_latency_ratio=1.5,
    max_size_ratio=1.5,
    resamples=500,
    confidence=0.95,
    seed=1,
)
LEAD = np.full(NUM_DOCUMENTS, 20.0)


def evidence(name="version 2", rouge=None, **changes):
    zeros = np.zeros(NUM_DOCUMENTS)
    values = Evidence(
        name=name,
        test_digest="a" * 64,
        convention="rouge1",
        decoding={"beam_size": 4},
        rouge=np.full(NUM_DOCUMENTS, 30.0) if rouge is None else rouge,
        repetition=zeros,
        unsupported=zeros,
        empty=zeros,
        p95_seconds=0.02,
        size_bytes=1_000_000,
    )
    return dataclasses.replace(values, **changes)


def judge(challenger, champion, **changes):
    return decide(
        challenger, champion, LEAD, lead_name="lead-1", thresholds=dataclasses.replace(THRESHOLDS, **changes)
    )


def scores(generator, mean):
    return generator.normal(mean, 15, NUM_DOCUMENTS)


def test_identical_models_are_never_promoted():
    generator = np.random.default_rng(0)
    for _ in range(200):
        rouge = scores(generator, 30)
        assert not judge(evidence(rouge=rouge), evidence("version 1", rouge.copy())).promote


def test_models_of_equal_quality_are_promoted_no_more_often_than_stated():
    """2.5 % of 200 null pairs is 5; more than 13 has a chance below 1 in 1,000 (binomial)."""
    generator = np.random.default_rng(0)
    promoted = sum(
        judge(evidence(rouge=scores(generator, 30)), evidence("version 1", scores(generator, 30))).promote
        for _ in range(200)
    )
    assert promoted <= 13


def test_a_better_model_is_promoted_and_the_reason_has_the_numbers():
    generator = np.random.default_rng(0)
    champion = scores(generator, 30)
    decision = judge(evidence(rouge=champion + 2), evidence("version 1", champion))
    assert decision.promote
    assert "+2.00 points of ROUGE F1 against version 1" in decision.reason
    assert all(check.passed for check in decision.checks)


def test_the_gain_must_exceed_the_minimum():
    champion = scores(np.random.default_rng(0), 30)
    pair = evidence(rouge=champion + 2), evidence("version 1", champion)
    assert judge(*pair, minimum_gain=1.9).promote
    assert not judge(*pair, minimum_gain=2.0).promote


@pytest.mark.parametrize(
    ("worse", "name"),
    [
        ({"repetition": np.full(NUM_DOCUMENTS, 0.1)}, "repetition"),
        ({"unsupported": np.full(NUM_DOCUMENTS, 0.1)}, "unsupported words"),
        ({"empty": np.repeat([1.0, 0.0], [10, NUM_DOCUMENTS - 10])}, "empty summaries"),
        ({"p95_seconds": 0.04}, "p95 latency"),
        ({"size_bytes": 2_000_000}, "size"),
        ({"failed_behaviours": ("upper case changes 3 of 20 summaries",)}, "behaviour"),
    ],
)
def test_better_rouge_does_not_outweigh_what_got_worse(worse, name):
    decision = judge(evidence(rouge=np.full(NUM_DOCUMENTS, 35.0), **worse), evidence("version 1"))
    assert not decision.promote
    assert [check.name for check in decision.checks if not check.passed] == [name]
    assert name in decision.reason


def test_a_changed_test_set_is_refused():
    decision = judge(
        evidence(rouge=np.full(NUM_DOCUMENTS, 35.0), test_digest="b" * 64), evidence("version 1")
    )
    assert not decision.promote
    assert "the test set changed in between" in decision.reason


def test_scores_of_different_conventions_are_not_compared():
    decision = judge(evidence(convention="rouge1|stem:yes"), evidence("version 1"))
    assert not decision.promote
    assert "run the gate again" in decision.reason


def test_the_first_champion_must_beat_the_lead_baseline():
    assert judge(evidence(), None).promote
    decision = judge(evidence(rouge=LEAD.copy()), None)
    assert not decision.promote
    assert "lead-1" in decision.reason


def test_other_decoding_is_noted():
    decision = judge(
        evidence(rouge=np.full(NUM_DOCUMENTS, 35.0), decoding={"beam_size": 8}), evidence("version 1")
    )
    assert decision.promote
    assert decision.notes == ("each decodes as it is served: beam_size is 8, with version 1 4",)
