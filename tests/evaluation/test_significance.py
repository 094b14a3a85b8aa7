import numpy as np
import pytest

from precis.evaluation.significance import (
    bootstrap,
    paired_difference,
    randomisation_p_value,
    resampled_means,
)


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(0).normal(size=(200, 3))
    how = {"resamples": 1000, "confidence": 0.95}
    assert bootstrap(values, **how, seed=5) == bootstrap(values, **how, seed=5)
    assert bootstrap(values, **how, seed=5) != bootstrap(values, **how, seed=6)


def test_resampled_means_are_means_of_documents_drawn_with_replacement():
    means = resampled_means(np.array([[0.0], [3.0]]), resamples=4000, seed=1)
    values, counts = np.unique(means, return_counts=True)
    np.testing.assert_array_equal(values, [0.0, 1.5, 3.0])
    np.testing.assert_allclose(counts / 4000, [0.25, 0.5, 0.25], atol=0.03)


@pytest.mark.parametrize("draw", ["normal", "beta"])
def test_intervals_contain_the_true_mean_as_often_as_they_say(draw):
    generator = np.random.default_rng(11)
    inside = 0
    for simulation in range(200):
        if draw == "normal":
            values, true_mean = generator.normal(loc=3.0, size=300), 3.0
        else:  # as skewed as ROUGE-2 of short summaries
            values, true_mean = generator.beta(0.5, 2.0, size=300), 0.2
        (interval,) = bootstrap(values[:, None], resamples=1000, confidence=0.9, seed=simulation)
        inside += interval.low <= true_mean <= interval.high
    # 180 expected; 4 standard deviations are 17
    assert 163 <= inside <= 197


def test_equal_systems_are_rarely_called_different():
    generator = np.random.default_rng(3)
    false_alarms = outside = 0
    for simulation in range(200):
        difficulty = generator.normal(scale=10.0, size=200)
        a, b = (difficulty + generator.normal(scale=8.0, size=200) for _ in range(2))
        result = paired_difference(a, b, resamples=500, confidence=0.95, seed=simulation)
        false_alarms += result.p_value < 0.05
        outside += not result.low <= 0 <= result.high
    # 10 expected; 3 standard deviations are 9
    assert false_alarms <= 19
    assert outside <= 19


def test_a_planted_difference_of_one_point_is_found():
    generator = np.random.default_rng(4)
    found = 0
    for simulation in range(20):
        difficulty = generator.normal(loc=40, scale=15, size=1000)
        a = difficulty + generator.normal(scale=5, size=1000)
        b = difficulty + 1.0 + generator.normal(scale=5, size=1000)
        result = paired_difference(a, b, resamples=1000, confidence=0.95, seed=simulation)
        found += result.p_value < 0.05 and result.low > 0 and result.p_worse < 0.05
    assert found >= 19


@pytest.mark.parametrize("number", [1, 6, 8, 11])
def test_the_randomisation_test_equals_the_count_over_all_exchanges(number):
    differences = np.array([3.0, -1.0, 2.0, 2.5, 0.5, 1.0, -0.25, 4.0, 0.0, 1.5, -2.0])[:number]
    signs = np.array([[1 - 2 * (row >> bit & 1) for bit in range(number)] for row in range(2**number)])
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()))
    estimate = randomisation_p_value(differences, resamples=20_000, seed=0)
    assert estimate == pytest.approx(exact, abs=0.01)


def test_identical_scores_are_no_difference():
    scores = np.linspace(0, 1, 50)
    result = paired_difference(scores, scores, resamples=200, confidence=0.95, seed=0)
    assert (result.mean, result.low, result.high, result.p_value) == (0, 0, 0, 1)
