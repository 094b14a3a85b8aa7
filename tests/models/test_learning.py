"""A tiny pointer-generator learns to copy words that its vocabulary lacks."""

import time

import pytest
import torch

from precis.models.build import build_model, options_of
from precis.models.mixture import final_log_probs
from precis.models.source import BOS_ID, EOS_ID, UNK_ID, Source, Target

VOCABULARY_SIZE = 12
OPTIONS = {
    "source_vocabulary_size": VOCABULARY_SIZE, "target_vocabulary_size": VOCABULARY_SIZE, "shared_vocabulary": True,
    "cell": "lstm", "layers": 1, "bidirectional": True, "embedding_size": 16, "hidden_size": 32,
    "decoder_size": 64, "tie_embeddings": True, "readout": "tanh", "dropout": 0.0, "word_dropout": 0.0,
    "label_smoothing": 0.0, "attention": "general", "input_feeding": False, "attend_with_cell": False,
    "intra_attention": False, "coverage": False, "coverage_weight": 1.0, "generation": "mixture",
    "pointing_weight": 0.0,
}  # fmt: skip


def batch(generator, num_rows=64):
    """Sources with two markers, each followed by an unknown word; the summary is these two words."""
    num_words = 8
    ids = torch.randint(6, VOCABULARY_SIZE, (num_rows, num_words), generator=generator)
    first = torch.randint(0, 3, (num_rows,), generator=generator)
    second = torch.randint(4, 7, (num_rows,), generator=generator)
    rows = torch.arange(num_rows)
    extended = ids.clone()
    for position, marker, oov in ((first, 4, 0), (second, 5, 1)):
        ids[rows, position] = marker
        extended[rows, position] = marker
        ids[rows, position + 1] = UNK_ID
        extended[rows, position + 1] = VOCABULARY_SIZE + oov
    targets = torch.tensor([[VOCABULARY_SIZE, VOCABULARY_SIZE + 1, EOS_ID]]).repeat(num_rows, 1)
    inputs = torch.tensor([[BOS_ID, UNK_ID, UNK_ID]]).repeat(num_rows, 1)
    lengths = torch.full((num_rows,), num_words)
    return Source(ids, extended, lengths, 2), Target(inputs, targets)


def share_exact(model, source, target):
    model.eval()
    with torch.no_grad():
        memory = model.encode(source)
        state = model.initial_state(memory, 1)
        previous = torch.full((len(source.ids), 1), BOS_ID)
        words = []
        for _ in range(target.ids.shape[1]):
            step = model.step(memory, state, previous)
            state = step.state
            best = final_log_probs(step, source.extended_ids, source.num_oovs).argmax(2)
            words.append(best)
            previous = best.masked_fill(best >= VOCABULARY_SIZE, UNK_ID)
    model.train()
    return (torch.cat(words, 1) == target.ids).all(1).float().mean().item()


def train(name, num_updates, seed=1):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = build_model(name, **{key: OPTIONS[key] for key in options_of(name)})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005, fused=True)
    for _ in range(num_updates):
        optimizer.zero_grad()
        model.training_loss(*batch(generator)).total.backward()
        optimizer.step()
    return share_exact(model, *batch(torch.Generator().manual_seed(2), num_rows=500))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_pointer_learns_to_copy_unknown_words(seed):
    start = time.process_time()
    assert train("pointer", num_updates=300, seed=seed) > 0.95
    assert time.process_time() - start < 30


def test_without_the_pointer_it_never_can():
    assert train("attention", num_updates=300) == 0
