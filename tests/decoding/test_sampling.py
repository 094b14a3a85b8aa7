import math

import numpy as np
import pytest
import torch
from table_decoder import SPECIAL, TableDecoder, all_hypotheses

from precis.decoding.repetition import NgramBlock
from precis.decoding.sampling import SamplingSettings, draw, sample
from precis.errors import PrecisError


def drawn(decoder, source, numbers, **how):
    extended_ids = torch.tensor([source] * len(numbers))
    memory = decoder.memory(extended_ids != SPECIAL.pad)
    memory["shift"] = torch.zeros(len(numbers), dtype=torch.int64)
    return sample(decoder, memory, extended_ids, SamplingSettings(**how), SPECIAL, numbers)


@pytest.mark.parametrize("copies", [True, False])
def test_summaries_come_as_often_as_they_are_probable(copies):
    decoder = TableDecoder.random(1, vocabulary_size=6, source_length=3, copies=copies)
    (found,) = drawn(decoder, [4, 6, 6], [0], samples=5_000, max_length=2, seed=1)
    expected = {h.ids: h for h in all_hypotheses(decoder, 0, [4, 6, 6], 0, 2)}
    counts: dict[tuple[int, ...], int] = {}
    for hypothesis in found:
        ids = tuple(hypothesis.ids.tolist())
        counts[ids] = counts.get(ids, 0) + 1
        assert hypothesis.log_prob == pytest.approx(expected[ids].log_prob, rel=1e-9)
        np.testing.assert_allclose(hypothesis.generated + hypothesis.copied, np.exp(hypothesis.log_probs))
    # words that are never written leave their share to the others: compare the odds of two summaries
    common = sorted(counts, key=lambda ids: -counts[ids])[:2]
    one, other = common
    if len(one) == len(other) == 1:
        odds = math.exp(expected[one].log_probs[0] - expected[other].log_probs[0])
        assert counts[one] / counts[other] == pytest.approx(odds, rel=0.2)


def test_the_same_seed_and_document_draw_the_same_in_any_batch():
    decoder = TableDecoder.random(2, vocabulary_size=7, source_length=3, copies=True)
    how = {"samples": 3, "max_length": 6, "seed": 9}
    together = drawn(decoder, [4, 8, 5], [10, 11, 12], **how)
    for number, of_document in zip([10, 11, 12], together, strict=True):
        (alone,) = drawn(decoder, [4, 8, 5], [number], **how)
        assert [h.ids.tolist() for h in alone] == [h.ids.tolist() for h in of_document]
    other = drawn(decoder, [4, 8, 5], [10], **{**how, "seed": 10})
    assert [h.ids.tolist() for h in other[0]] != [h.ids.tolist() for h in together[0]]


def probabilities_of(settings: SamplingSettings) -> np.ndarray:
    log_probs = torch.tensor([[[0.1, 0.4, 0.2, 0.3]]]).log().expand(1, 50_000, 4)
    noise = torch.rand(1, 50_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return np.bincount(draw(log_probs, noise, settings)[0].numpy(), minlength=4) / 50_000


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.6}, [0, 4 / 7, 0, 3 / 7]),  # 0.4 is not enough, 0.4 + 0.3 is
        ({"top_p": 0.1}, [0, 1, 0, 0]),
        ({"temperature": 0.5}, np.array([0.01, 0.16, 0.04, 0.09]) / 0.3),
    ],
)
def test_words_are_drawn_by_the_changed_distribution(how, expected):
    settings = SamplingSettings(samples=1, max_length=1, seed=0, **how)
    np.testing.assert_allclose(probabilities_of(settings), expected, atol=0.01)


def test_lengths_are_kept():
    decoder = TableDecoder.random(3, vocabulary_size=6, source_length=3, copies=True)
    (found,) = drawn(decoder, [4, 6, 5], [0], samples=300, min_length=2, max_length=3, seed=1)
    assert {len(hypothesis.ids) for hypothesis in found} == {2, 3}


@pytest.mark.parametrize("size", [1, 2])
def test_no_ngram_is_drawn_twice_but_of_excepted_words(size):
    decoder = TableDecoder.random(5, vocabulary_size=6, source_length=3, copies=True)
    extended_ids = torch.tensor([[4, 6, 7]] * 40)
    memory = decoder.memory(extended_ids != SPECIAL.pad)
    settings = SamplingSettings(samples=5, max_length=8, min_length=4, seed=3)
    how = decoder, memory, extended_ids, settings, SPECIAL, list(range(40))
    repeated_exception = 0
    for of_document in sample(*how, None, NgramBlock(size, (5,))):
        for hypothesis in of_document:
            ids = hypothesis.ids.tolist()
            ngrams = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
            plain = [ngram for ngram in ngrams if 5 not in ngram]
            assert len(plain) == len(set(plain))
            repeated_exception += len(ngrams) - len(set(ngrams)) > 0
    assert repeated_exception > 0


def test_what_is_banned_is_not_drawn_and_where_nothing_is_left_it_ends():
    decoder = TableDecoder.random(5, vocabulary_size=6, source_length=3, copies=True)
    extended_ids = torch.tensor([[4, 6, 7]] * 2)
    memory = decoder.memory(extended_ids != SPECIAL.pad)
    settings = SamplingSettings(samples=50, max_length=5, min_length=2, seed=3)
    banned = torch.tensor([[4, 6, SPECIAL.pad, SPECIAL.pad], [4, 5, 6, 7]])
    some, nothing = sample(decoder, memory, extended_ids, settings, SPECIAL, [0, 1], banned)
    assert {word for hypothesis in some for word in hypothesis.ids.tolist()} == {5, 7}
    assert all(len(hypothesis.ids) == 0 and math.isfinite(hypothesis.score) for hypothesis in nothing)


def test_settings_that_cannot_be_used_are_refused():
    with pytest.raises(PrecisError, match="temperature 0"):
        SamplingSettings(samples=1, max_length=1, seed=0, temperature=0)
    with pytest.raises(PrecisError, match="top_p 2"):
        SamplingSettings(samples=1, max_length=1, seed=0, top_p=2)
