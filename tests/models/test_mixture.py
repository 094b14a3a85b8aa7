"""The final distribution: a mixture whose rows sum to 1."""

import math

import pytest
import torch

from precis.models.base import Step
from precis.models.mixture import final_log_probs


def step(vocab_dist, attention, p_gen):
    p_gen = torch.tensor(p_gen)
    return Step(torch.tensor(vocab_dist).log(), torch.tensor(attention), torch.logit(p_gen), {})


def test_a_word_repeated_in_the_source_collects_all_its_attention():
    # B = 1, K = 1, V = 2, S = 3; the source: a source OOV, word 1, the same OOV
    final = final_log_probs(
        step([[[0.6, 0.4]]], [[[0.5, 0.2, 0.3]]], [[[0.9]]]), torch.tensor([[2, 1, 2]]), 1
    )
    expected = [0.9 * 0.6, 0.9 * 0.4 + 0.1 * 0.2, 0.1 * (0.5 + 0.3)]
    torch.testing.assert_close(final.exp(), torch.tensor([[expected]]))


def test_beams_of_a_document_share_its_words():
    # K = 2 beams, V = 2, one source OOV
    final = final_log_probs(
        step([[[0.6, 0.4], [0.1, 0.9]]], [[[1.0, 0.0], [0.3, 0.7]]], [[[0.5], [0.2]]]),
        torch.tensor([[0, 2]]),
        1,
    )
    expected = [[0.5 * 0.6 + 0.5 * 1.0, 0.5 * 0.4, 0.0], [0.2 * 0.1 + 0.8 * 0.3, 0.2 * 0.9, 0.8 * 0.7]]
    torch.testing.assert_close(final.exp(), torch.tensor([expected]))


@pytest.mark.parametrize("p_gen_logit", [-1e4, -30.0, 0.0, 30.0, 1e4])
def test_rows_sum_to_one_for_every_gate(p_gen_logit):
    generator = torch.Generator().manual_seed(1)
    vocab = torch.log_softmax(torch.randn(3, 2, 17, generator=generator) * 5, 2)
    attention = torch.softmax(torch.randn(3, 2, 9, generator=generator) * 5, 2)
    ids = torch.randint(4, 20, (3, 9), generator=generator)
    final = final_log_probs(Step(vocab, attention, torch.full((3, 2, 1), p_gen_logit), {}), ids, 4)
    assert final.shape == (3, 2, 21)
    torch.testing.assert_close(final.exp().sum(2), torch.ones(3, 2), atol=1e-5, rtol=0)
    assert not final.isnan().any()
    for b in range(3):
        for k in range(2):
            p_gen = 1 / (1 + math.exp(-p_gen_logit)) if p_gen_logit > -700 else 0.0
            for word in range(21):
                generated = p_gen * vocab[b, k, word].exp().item() if word < 17 else 0.0
                copied = (1 - p_gen) * attention[b, k][ids[b] == word].sum().item()
                assert final[b, k, word].exp().item() == pytest.approx(generated + copied, abs=1e-6)


def test_a_model_without_a_pointer_never_writes_source_oovs():
    vocab = torch.log_softmax(torch.randn(2, 3, 5), 2)
    final = final_log_probs(Step(vocab, None, None, {}), torch.full((2, 4), 6), 2)
    assert (final[:, :, 5:] == -math.inf).all()
    torch.testing.assert_close(final[:, :, :5], vocab)
