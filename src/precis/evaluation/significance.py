"""How sure a mean is, and a difference of two means: seeded resampling over documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1 << 19  # documents drawn at a time: bounds the memory, whatever the size of the corpus


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much better B is than A on the same documents.

    Attributes:
        mean: mean of B - A.
        low, high: its bootstrap interval.
        p_value: two-sided, of the hypothesis that there is no difference: by approximate randomisation.
        p_worse: share of the bootstrap means that are 0 or less: of the hypothesis that B is not better.
    """

    mean: float
    low: float
    high: float
    p_value: float
    p_worse: float


def resampled_means(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Means of documents drawn with replacement, all columns from the same draws.

    Args:
        values: one row per document, (N, metrics).
        resamples: how many times N documents are drawn.
        seed: the same seed gives the same means.

    Returns:
        (resamples, metrics).
    """
    generator = np.random.default_rng(seed)
    num_documents = len(values)
    # how often each document is drawn: the counts of N draws, by which the values are weighted in one product
    means = np.empty((resamples, values.shape[1]))
    block = max(1, DRAWS // num_documents)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(num_documents, size=(size, num_documents), dtype=np.int32)
        drawn += num_documents * np.arange(size, dtype=np.int32)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * num_documents).reshape(size, num_documents)
        means[start : start + size] = counts @ values / num_documents
    return means


def bootstrap(values: NDArray[np.float64], *, resamples: int, confidence: float, seed: int) -> list[Interval]:
    """The mean of each column with its percentile interval; (N, metrics) in, one interval per metric out."""
    if len(values) == 0:
        return [Interval(float("nan"), float("nan"), float("nan"))] * values.shape[1]
    tail = (1 - confidence) / 2
    lows, highs = np.quantile(resampled_means(values, resamples, seed), [tail, 1 - tail], axis=0)
    return [
        Interval(float(mean), float(low), float(high))
        for mean, low, high in zip(values.mean(0), lows, highs, strict=True)
    ]


def paired_difference(
    a: NDArray[np.float64], b: NDArray[np.float64], *, resamples: int, confidence: float, seed: int
) -> Difference:
    """Compare two systems by their scores of the same documents, (N,) each."""
    assert a.shape == b.shape and a.ndim == 1
    differences = b - a
    means = resampled_means(differences[:, None], resamples, seed)[:, 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(
        mean=float(differences.mean()),
        low=float(low),
        high=float(high),
        p_value=randomisation_p_value(differences, resamples=resamples, seed=seed),
        p_worse=float((np.count_nonzero(means <= 0) + 1) / (resamples + 1)),
    )


def randomisation_p_value(differences: NDArray[np.float64], *, resamples: int, seed: int) -> float:
    """Approximate randomisation (Riezler and Maxwell, 2005): exchange the systems at random, document by document.

    Args:
        differences: B - A by document.
        resamples: how many random exchanges.
        seed: the same seed gives the same value.

    Returns:
        The two-sided p-value, never 0: (exchanges at least as extreme + 1) / (resamples + 1).
    """
    generator = np.random.default_rng(seed)
    observed = abs(differences.sum())
    # sums of equal size differ in their last digits by the order of adding: those count as equal
    slack = 1e-12 * np.abs(differences).sum()
    # documents by eights: a random byte stands for their eight exchanges, and picks their sum from a table
    num_bytes = (len(differences) + 7) // 8
    by_eights = np.pad(differences, (0, 8 * num_bytes - len(differences))).reshape(num_bytes, 8)
    signs = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    table = signs @ by_eights.T  # (256, eights)
    at_least = 0
    block = max(1, DRAWS // num_bytes)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        exchanges = generator.integers(256, size=(size, num_bytes), dtype=np.uint8)
        sums = table[exchanges, np.arange(num_bytes)].sum(1)
        at_least += int(np.count_nonzero(np.abs(sums) >= observed - slack))
    return (at_least + 1) / (resamples + 1)
