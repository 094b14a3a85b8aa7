"""The search against one that is slow and plain: dictionaries of words, lists of hypotheses, no tensors in its loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from table_decoder import SPECIAL, Scored, TableDecoder

from precis.decoding.beam_search import BeamSettings, beam_search
from precis.decoding.penalties import Penalties
from precis.decoding.repetition import NgramBlock


def score(hypothesis: Scored, penalties: Penalties) -> float:
    """By the formulas of Wu et al. (2016) and Gehrmann et al. (2018)."""
    steps = len(hypothesis.ids) + 1
    divisor = {"none": 1.0, "average": steps, "wu": ((5 + steps) / (5 + 1)) ** penalties.length_alpha}
    total = hypothesis.log_prob / divisor[penalties.length]
    if penalties.coverage == "wu":
        total += penalties.coverage_beta * sum(math.log(min(c, 1.0)) for c in hypothesis.coverage)
    if penalties.coverage == "summary":
        total += penalties.coverage_beta * (
            len(hypothesis.coverage) - sum(max(c, 1.0) for c in hypothesis.coverage)
        )
    return total


def repeats(ids: tuple[int, ...], block: NgramBlock) -> bool:
    """Whether the last n-gram of the ids was there before and holds no excepted word."""
    size = block.size
    if not size or len(ids) <= size or set(ids[-size:]) & set(block.exceptions):
        return False
    return ids[-size:] in [ids[start : start + size] for start in range(len(ids) - size)]


def plain_search(
    decoder: TableDecoder,
    document: int,
    source: list[int],
    banned: list[int],
    *,
    beam_size: int,
    min_length: int,
    max_length: int,
    penalties: Penalties,
    ngram_block: NgramBlock,
) -> list[tuple[float, tuple[int, ...]]]:
    """All hypotheses that end, best first: until as many as there are beams have ended."""
    open_ = [(0.0, (), document, SPECIAL.bos, [0.0] * len(source))]
    ended: list[tuple[float, tuple[int, ...]]] = []
    forbidden = {*SPECIAL.never_written, SPECIAL.eos, *banned}
    for num_words in range(max_length + 1):
        ends, words = [], []
        for log_prob, ids, before_it, previous, coverage in open_:
            context = (5 * before_it + previous) % len(decoder.vocab)
            attention = decoder.attention[context][: len(source)]
            attention = (attention / attention.sum()).tolist()
            covered = [before + now for before, now in zip(coverage, attention, strict=True)]
            p_gen = 1.0 if decoder.p_gen_logit is None else decoder.p_gen_logit[context].sigmoid().item()
            probabilities = {word: p_gen * p for word, p in enumerate(decoder.vocab[context].exp().tolist())}
            if decoder.p_gen_logit is not None:
                for word, weight in zip(source, attention, strict=True):
                    probabilities[word] = probabilities.get(word, 0.0) + (1 - p_gen) * weight
            if num_words >= min_length:
                ends.append((log_prob + math.log(probabilities[SPECIAL.eos]), ids, covered))
            for word, probability in probabilities.items():
                if word not in forbidden and not repeats((*ids, word), ngram_block):
                    known = word if word < decoder.vocab.shape[1] else SPECIAL.unk
                    words.append((log_prob + math.log(probability), (*ids, word), context, known, covered))
        words = sorted(words, key=lambda one: -one[0])[:beam_size] if num_words < max_length else []
        for better_ends, (log_prob, ids, covered) in enumerate(sorted(ends, key=lambda one: -one[0])):
            if better_ends + sum(word[0] > log_prob for word in words) < beam_size:
                ended.append((score(Scored(ids, (log_prob,), tuple(covered)), penalties), ids))
        if len(ended) >= beam_size or not words:
            break
        open_ = words
    return sorted(ended, reverse=True)


PENALTIES = st.builds(
    Penalties,
    length=st.sampled_from(["none", "average", "wu"]),
    length_alpha=st.sampled_from([0.4, 1.0, 2.0]),
    coverage=st.sampled_from(["none", "summary", "wu"]),
    coverage_beta=st.sampled_from([0.2, 1.0]),
)


# 700 words are looked at in blocks, 8 at once
@pytest.mark.parametrize(("vocabulary_size", "examples"), [(8, 200), (700, 30)])
def test_the_search_finds_what_a_plain_one_finds(vocabulary_size, examples):
    source = st.lists(st.integers(4, vocabulary_size + 3), min_size=1, max_size=6)

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(
        seed=st.integers(0, 10**6),
        sources=st.lists(source, min_size=1, max_size=3),
        banned=st.lists(st.integers(4, 9), max_size=2),
        copies=st.booleans(),
        beam_size=st.sampled_from([1, 2, 3, 4]),
        lengths=st.sampled_from([(0, 4), (2, 6), (5, 7)]),
        penalties=PENALTIES,
        block=st.builds(NgramBlock, st.integers(0, 3), st.sampled_from([(), (4,), (5, vocabulary_size)])),
        stop_early=st.booleans(),
    )
    def check(seed, sources, banned, copies, beam_size, lengths, penalties, block, stop_early):
        decoder = TableDecoder.random(seed, vocabulary_size, 6, copies=copies, spread=2.0, contexts=1009)
        width = max(map(len, sources))
        extended_ids = torch.tensor([one + [SPECIAL.pad] * (width - len(one)) for one in sources])
        how = {
            "beam_size": beam_size,
            "min_length": lengths[0],
            "max_length": lengths[1],
            "penalties": penalties,
            "ngram_block": block,
        }
        found = beam_search(
            decoder,
            decoder.memory(extended_ids != SPECIAL.pad),
            extended_ids,
            BeamSettings(**how, n_best=beam_size if not stop_early else 1, stop_early=stop_early),
            SPECIAL,
            torch.tensor([banned] * len(sources), dtype=torch.int64).reshape(len(sources), len(banned)),
        )
        for document, source in enumerate(sources):
            expected = plain_search(decoder, document, source, banned, **how)[: len(found[document])]
            assert [tuple(one.ids.tolist()) for one in found[document]] == [ids for _, ids in expected]
            np.testing.assert_allclose(
                [one.score for one in found[document]], [s for s, _ in expected], rtol=1e-9
            )

    check()
