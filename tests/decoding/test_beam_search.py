import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from table_decoder import SPECIAL, TableDecoder, all_hypotheses

from precis.decoding.beam_search import BeamSettings, beam_search
from precis.decoding.penalties import Penalties
from precis.decoding.repetition import NgramBlock
from precis.errors import PrecisError


def padded(sources: list[list[int]]) -> torch.Tensor:
    width = max(map(len, sources))
    return torch.tensor([source + [SPECIAL.pad] * (width - len(source)) for source in sources])


def search(decoder: TableDecoder, sources: list[list[int]], banned: list[list[int]] | None = None, **how):
    extended_ids = padded(sources)
    return beam_search(
        decoder,
        decoder.memory(extended_ids != SPECIAL.pad),
        extended_ids,
        BeamSettings(**how),
        SPECIAL,
        None if banned is None else padded(banned),
    )


def final_score(hypothesis, penalties: Penalties) -> float:
    """The ranking score by the formulas of the papers, in plain Python."""
    steps = len(hypothesis.ids) + 1
    divisor = {
        "none": 1,
        "average": steps,
        "wu": (5 + steps) ** penalties.length_alpha / 6**penalties.length_alpha,
    }
    score = hypothesis.log_prob / divisor[penalties.length]
    match penalties.coverage:
        case "wu":
            score += penalties.coverage_beta * sum(math.log(min(c, 1.0)) for c in hypothesis.coverage)
        case "summary":
            score -= penalties.coverage_beta * (
                sum(max(c, 1.0) for c in hypothesis.coverage) - len(hypothesis.coverage)
            )
    return score


# sources of words 4, 5 (in the vocabulary of 6) and 6, 7 (not), repeated and of different lengths
SOURCES = st.lists(st.integers(4, 7), min_size=1, max_size=4)
PENALTIES = st.builds(
    Penalties,
    length=st.sampled_from(["none", "average", "wu"]),
    length_alpha=st.sampled_from([0.4, 1.0, 2.0]),
    coverage=st.sampled_from(["none", "summary", "wu"]),
    coverage_beta=st.sampled_from([0.2, 1.0]),
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    sources=st.lists(SOURCES, min_size=1, max_size=2),
    copies=st.booleans(),
    lengths=st.sampled_from([(0, 1), (0, 3), (1, 2), (2, 3)]),
    penalties=PENALTIES,
    n_best=st.integers(1, 3),
)
def test_with_enough_beams_the_search_is_exhaustive(seed, sources, copies, lengths, penalties, n_best):
    min_length, max_length = lengths
    decoder = TableDecoder.random(seed, vocabulary_size=6, source_length=4, copies=copies)
    found = search(
        decoder,
        sources,
        beam_size=4**3 + 4**2 + 4 + 1,  # as many as there are summaries of at most 3 of 4 words
        min_length=min_length,
        max_length=max_length,
        penalties=penalties,
        n_best=n_best,
    )
    for document, source in enumerate(sources):
        hypotheses = list(all_hypotheses(decoder, document, source, min_length, max_length))
        scores = {hypothesis.ids: final_score(hypothesis, penalties) for hypothesis in hypotheses}
        best = sorted(scores.values(), reverse=True)[:n_best]
        np.testing.assert_allclose([h.score for h in found[document]], best, rtol=1e-9)
        for hypothesis in found[document]:
            assert hypothesis.score == pytest.approx(scores[tuple(hypothesis.ids.tolist())], rel=1e-9)


@pytest.mark.parametrize("copies", [True, False])
def test_masses_add_up_and_steps_sum_to_the_log_probability(copies):
    sources = [[4, 6, 7, 6], [5, 4]]
    decoder = TableDecoder.random(3, vocabulary_size=6, source_length=4, copies=copies)
    found = search(decoder, sources, beam_size=4, max_length=6, n_best=4)
    for document, source in enumerate(sources):
        by_ids = {h.ids: h for h in all_hypotheses(decoder, document, source, 0, 6)}
        for hypothesis in found[document]:
            expected = by_ids[tuple(hypothesis.ids.tolist())]
            np.testing.assert_allclose(hypothesis.log_probs, expected.log_probs, rtol=1e-9)
            np.testing.assert_allclose(hypothesis.generated + hypothesis.copied, np.exp(expected.log_probs))
            np.testing.assert_allclose(
                hypothesis.attention.sum(0)[: len(source)], expected.coverage, rtol=1e-5
            )
            assert hypothesis.log_probs.sum() == pytest.approx(hypothesis.log_prob)
            assert (hypothesis.generated[:-1][hypothesis.ids >= 6] == 0).all()
            assert (hypothesis.p_gen is None) == (not copies)
            if not copies:
                assert (hypothesis.copied == 0).all()


def greedy(decoder: TableDecoder, document: int, source: list[int], max_length: int) -> list[int]:
    words: list[int] = []
    while len(words) < max_length:
        continuations = [
            hypothesis
            for hypothesis in all_hypotheses(decoder, document, source, 0, len(words) + 1)
            if hypothesis.ids[: len(words)] == tuple(words)
        ]
        end = next(h.log_probs[-1] for h in continuations if h.ids == tuple(words))
        following = {h.ids[-1]: h.log_probs[len(words)] for h in continuations if len(h.ids) > len(words)}
        best = max(following, key=lambda word: following[word])
        if end >= following[best]:
            break
        words.append(best)
    return words


@pytest.mark.parametrize("seed", range(30))
def test_one_beam_is_the_greedy_choice(seed):
    sources = [[4, 6, 6], [7], [5, 4, 6, 7]]
    decoder = TableDecoder.random(seed, vocabulary_size=6, source_length=4, copies=True)
    for penalties in (Penalties(), Penalties(length="average")):
        found = search(decoder, sources, beam_size=1, max_length=5, penalties=penalties)
        for document, source in enumerate(sources):
            assert found[document][0].ids.tolist() == greedy(decoder, document, source, 5)


HOW = [
    {},
    {"penalties": Penalties(length="wu", length_alpha=0.8, coverage="wu", coverage_beta=0.3)},
    {"penalties": Penalties(coverage="summary", coverage_beta=0.3), "ngram_block": NgramBlock(2)},
    {"groups": 2, "diversity": 0.7},
    {"min_length": 4},
]


def same(one, other) -> None:
    assert [h.ids.tolist() for h in one] == [h.ids.tolist() for h in other]
    np.testing.assert_allclose([h.score for h in one], [h.score for h in other], rtol=1e-12)


@pytest.mark.parametrize("how", HOW)
def test_a_batch_gives_what_its_documents_give_alone(how):
    generator = np.random.default_rng(7)
    sources = [generator.integers(4, 9, size=size).tolist() for size in (1, 6, 3, 6, 2, 5, 4, 1, 6, 6, 3, 2)]
    decoder = TableDecoder.random(11, vocabulary_size=7, source_length=6, copies=True)
    together = search(decoder, sources, beam_size=4, max_length=12, n_best=2, **how)
    for document, source in enumerate(sources):
        extended_ids = padded([source])
        memory = decoder.memory(extended_ids != SPECIAL.pad)
        memory["shift"] = torch.tensor([document])
        settings_ = BeamSettings(beam_size=4, max_length=12, n_best=2, **how)
        (alone,) = beam_search(decoder, memory, extended_ids, settings_, SPECIAL)
        same(together[document], alone)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("seed", range(5))
def test_stopping_early_changes_no_result(how, seed):
    sources = [[4, 6, 7, 6], [5, 4], [8, 8, 7]]
    decoder = TableDecoder.random(seed, vocabulary_size=7, source_length=4, copies=True)
    early = search(decoder, sources, beam_size=4, max_length=10, n_best=2, **how)
    late = search(decoder, sources, beam_size=4, max_length=10, n_best=2, stop_early=False, **how)
    for one, other in zip(early, late, strict=True):
        same(one, other)


def chain(*rows: dict[int, float]) -> TableDecoder:
    """A decoder whose distribution depends on the number of steps alone."""
    table = torch.full((len(rows), 6), 1e-30, dtype=torch.float64)
    for number, row in enumerate(rows):
        for word, probability in row.items():
            table[number, word] = probability
    return _Chain(table.log(), None, None)


class _Chain(TableDecoder):
    def step(self, memory, state, previous_ids):
        step = super().step(memory, {"context": state["context"] * 0}, previous_ids * 0)
        count = state["context"] + 1
        rows = count.clamp(max=len(self.vocab)) - 1
        return type(step)(self.vocab[rows], None, None, {"context": count})


def test_a_hypothesis_that_ends_early_and_wins_is_returned():
    # ending at once has 0.4; "4 4" and the end have 0.6 * 0.6 * 0.9 = 0.324
    decoder = chain({3: 0.4, 4: 0.6}, {4: 0.6, 5: 0.4}, {3: 0.9, 4: 0.1})
    (found,) = search(decoder, [[4]], beam_size=2, max_length=3, n_best=2)
    assert found[0].ids.tolist() == []
    assert found[0].score == pytest.approx(math.log(0.4))
    assert found[1].ids.tolist() == [4, 4]
    (average,) = search(decoder, [[4]], beam_size=2, max_length=3, penalties=Penalties(length="average"))
    assert average[0].ids.tolist() == [4, 4]  # log(0.324) / 3 = -0.376 against log(0.4) / 1 = -0.916


def test_the_search_stops_when_no_open_hypothesis_can_win():
    calls = []

    class Counting(_Chain):
        def step(self, memory, state, previous_ids):
            calls.append(len(previous_ids))
            return super().step(memory, state, previous_ids)

    decoder = Counting(chain({3: 0.9, 4: 0.1}, {4: 1.0}).vocab, None, None)
    search(decoder, [[4]], beam_size=4, max_length=50)
    assert len(calls) == 1
    calls.clear()
    search(decoder, [[4]], beam_size=4, max_length=50, stop_early=False)
    assert len(calls) > 1


def test_finished_documents_leave_the_batch():
    rows_by_step = []

    class Counting(TableDecoder):
        def step(self, memory, state, previous_ids):
            rows_by_step.append(len(previous_ids))
            assert len(memory["mask"]) == len(previous_ids) == len(state["context"])
            return super().step(memory, state, previous_ids)

    random = TableDecoder.random(5, vocabulary_size=9, source_length=2, copies=True)
    decoder = Counting(random.vocab, random.attention, random.p_gen_logit)
    search(decoder, [[4, 9]] * 40, beam_size=2, max_length=60)
    assert rows_by_step[0] == 40
    assert rows_by_step[-1] < 40


def test_lengths_are_kept():
    decoder = TableDecoder.random(2, vocabulary_size=6, source_length=3, copies=True)
    for hypotheses in search(decoder, [[4, 6, 7], [5]], beam_size=4, n_best=4, min_length=3, max_length=5):
        assert len(hypotheses) == 4
        assert all(3 <= len(hypothesis.ids) <= 5 for hypothesis in hypotheses)


def test_what_may_not_be_written_is_not():
    decoder = TableDecoder.random(4, vocabulary_size=6, source_length=4, copies=True)
    sources = [[4, 6, 7, 5], [4, 6, 7, 5]]
    found = search(decoder, sources, banned=[[6, 4], [7]], beam_size=6, n_best=6, max_length=4, min_length=2)
    written = [{int(word) for hypothesis in of_document for word in hypothesis.ids} for of_document in found]
    assert written[0] == {5, 7}
    assert written[1] == {4, 5, 6}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_comes_twice(size):
    decoder = TableDecoder.random(8, vocabulary_size=6, source_length=4, copies=True)
    how = {"beam_size": 4, "n_best": 4, "min_length": 3, "max_length": 8}
    found = search(decoder, [[4, 6, 7, 4]], ngram_block=NgramBlock(size), **how)
    for hypothesis in found[0]:
        ids = hypothesis.ids.tolist()
        ngrams = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
        assert len(ngrams) == len(set(ngrams))
    # the same as an exhaustive search among the hypotheses that repeat nothing
    everything = search(decoder, [[4, 6]], ngram_block=NgramBlock(size), beam_size=400, max_length=4)
    allowed = [
        h.log_prob
        for h in all_hypotheses(decoder, 0, [4, 6], 0, 4)
        if len({h.ids[i : i + size] for i in range(len(h.ids) - size + 1)}) == max(0, len(h.ids) - size + 1)
    ]
    assert everything[0][0].score == pytest.approx(max(allowed))


def test_excepted_words_may_come_again():
    decoder = chain({4: 1.0}, {5: 1.0}, {4: 1.0}, {5: 1.0}, {3: 1.0})
    (blocked,) = search(decoder, [[4]], beam_size=1, max_length=8, ngram_block=NgramBlock(2))
    assert blocked[0].ids.tolist() != [4, 5, 4, 5]
    (excepted,) = search(decoder, [[4]], beam_size=1, max_length=8, ngram_block=NgramBlock(2, (5,)))
    assert excepted[0].ids.tolist() == [4, 5, 4, 5]


def test_groups_that_avoid_each_other_begin_with_different_words():
    decoder = TableDecoder.random(21, vocabulary_size=9, source_length=3, copies=True)
    how = {"beam_size": 3, "n_best": 3, "min_length": 2, "max_length": 4, "groups": 3}
    (apart,) = search(decoder, [[4, 9, 5]], diversity=50.0, **how)
    assert len({hypothesis.ids[0] for hypothesis in apart}) == 3
    (alike,) = search(decoder, [[4, 9, 5]], diversity=0.0, **how)
    assert len({tuple(hypothesis.ids) for hypothesis in alike}) == 1
    by_ids = {h.ids: h.log_prob for h in all_hypotheses(decoder, 0, [4, 9, 5], 0, 4)}
    for hypothesis in apart:  # the diversity cost steers and is in no score
        assert hypothesis.log_prob == pytest.approx(by_ids[tuple(hypothesis.ids)])


def test_a_model_without_attention_has_no_coverage_to_punish():
    decoder = chain({3: 1.0})
    with pytest.raises(PrecisError, match="needs a model with attention"):
        search(
            decoder, [[4]], beam_size=1, max_length=2, penalties=Penalties(coverage="wu", coverage_beta=1.0)
        )


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"beam_size": 2, "max_length": 3, "min_length": 4}, "min_length 4"),
        ({"beam_size": 2, "max_length": 3, "n_best": 3}, "n_best 3"),
        ({"beam_size": 3, "max_length": 3, "groups": 2}, "groups 2"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(how, message):
    with pytest.raises(PrecisError, match=message):
        BeamSettings(**how)
