import numpy as np
import pytest
import torch
from table_decoder import SPECIAL, TableDecoder

from precis.decoding.beam_search import BeamSettings, beam_search
from precis.decoding.penalties import Penalties
from precis.decoding.reranking import best, score

PENALTIES = [
    Penalties(length, alpha, coverage, beta)
    for length, alpha in (("none", 1.0), ("average", 1.0), ("wu", 0.4), ("wu", 1.5))
    for coverage, beta in (("none", 0.0), ("wu", 0.3), ("summary", 0.5))
]


@pytest.mark.parametrize("seed", range(8))
def test_reranking_all_that_ended_equals_searching_with_each_penalty(seed):
    generator = np.random.default_rng(seed)
    sources = [generator.integers(4, 11, size=5).tolist() for _ in range(6)]
    extended_ids = torch.tensor(sources)
    decoder = TableDecoder.random(seed, vocabulary_size=9, source_length=5, copies=True)
    memory = decoder.memory(extended_ids != SPECIAL.pad)
    keep = BeamSettings(beam_size=4, max_length=9, n_best=8, stop_early=False)
    candidates = beam_search(decoder, memory, extended_ids, keep, SPECIAL)
    for penalties in PENALTIES:
        settings = BeamSettings(beam_size=4, max_length=9, penalties=penalties)
        searched = beam_search(decoder, memory, extended_ids, settings, SPECIAL)
        for of_document, (winner,) in zip(candidates, searched, strict=True):
            chosen = of_document[best(of_document, 5, penalties)]
            assert chosen.ids.tolist() == winner.ids.tolist()
            assert score(chosen, 5, penalties) == pytest.approx(winner.score, rel=1e-6)
