"""Losses, held against plain loops in float64 and against the limits of each float."""

import math

import pytest
import torch

from precis.models.losses import copied_mass, mixture_nll


def oracle(readout, weight, bias, targets, p_gen_logit, attention, matches, smoothing):
    """-log P(w) of See et al. (2017), eq. 9, word by word in probabilities; and the smoothed mean."""
    nll, smoothed = [], []
    for n in range(len(readout)):
        logits = [
            sum(readout[n, r] * weight[v, r] for r in range(readout.shape[1])) + bias[v]
            for v in range(len(weight))
        ]
        total = sum(torch.exp(logit) for logit in logits)
        p_gen = 1 / (1 + torch.exp(-p_gen_logit[n]))
        generated = torch.exp(logits[targets[n]]) / total if targets[n] >= 0 else torch.tensor(0.0).double()
        copied = sum(
            (attention[n, i] for i in range(attention.shape[1]) if matches[n, i]), torch.tensor(0.0).double()
        )
        nll.append(-torch.log(p_gen * generated + (1 - p_gen) * copied))
        uniform = -sum(torch.log(torch.exp(logit) / total) for logit in logits) / len(logits)
        smoothed.append((1 - smoothing) * nll[-1] + smoothing * uniform)
    return torch.stack(nll), torch.stack(smoothed).mean()


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(5)
    num_rows, readout_size, vocabulary_size, num_words = 7, 3, 11, 5

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    matches = torch.rand(num_rows, num_words, generator=generator) < 0.4
    targets = torch.randint(0, vocabulary_size, (num_rows,), generator=generator)
    targets[[1, 4]] = -1  # words of no vocabulary, which are in the source
    matches[[1, 4], 2] = True
    matches[0] = False  # a word that can only be generated
    return {
        "readout": draw(num_rows, readout_size),
        "weight": draw(vocabulary_size, readout_size),
        "bias": draw(vocabulary_size),
        "p_gen_logit": draw(num_rows),
        "scores": draw(num_rows, num_words),
        "targets": targets,
        "matches": matches,
    }


def ours(example, smoothing, dtype=torch.float64, weights=None):
    log_attention = torch.log_softmax(example["scores"], 1)
    p_gen_logit = example["p_gen_logit"]
    log_copied = torch.nn.functional.logsigmoid(-p_gen_logit) + copied_mass(log_attention, example["matches"])
    num_rows = len(p_gen_logit)
    weights = torch.full((num_rows,), 1 / num_rows, dtype=p_gen_logit.dtype) if weights is None else weights
    return mixture_nll(
        example["readout"], example["weight"], example["bias"], example["targets"],
        torch.nn.functional.logsigmoid(p_gen_logit), log_copied, weights, smoothing,
    )  # fmt: skip


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("block", [10, 33, 10**6])
def test_mixture_and_gradients_equal_plain_loops(example, smoothing, block, monkeypatch):
    monkeypatch.setattr("precis.models.losses._MAX_LOGITS", block)
    leaves = [tensor for tensor in example.values() if tensor.requires_grad]
    loss, nll = ours(example, smoothing)
    gradients = torch.autograd.grad(loss * 3.0, leaves)
    attention = torch.softmax(example["scores"], 1)
    expected_nll, expected = oracle(
        example["readout"], example["weight"], example["bias"], example["targets"],
        example["p_gen_logit"], attention, example["matches"], smoothing,
    )  # fmt: skip
    expected_gradients = torch.autograd.grad(expected * 3.0, leaves)
    torch.testing.assert_close(nll, expected_nll.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=0)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=0)


def test_without_gradients_the_loss_is_the_same(example):
    with_gradient = ours(example, 0.1)[0].detach()
    with torch.no_grad():
        assert ours(example, 0.1)[0] == with_gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("p_gen_logit", [-1e4, -50.0, 0.0, 50.0, 1e4])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("score", [-1e4, 0.0, 1e4])
def test_value_and_gradient_are_finite_at_the_extremes(dtype, p_gen_logit, logit, score):
    readout = torch.tensor([[1.0]] * 3, dtype=dtype, requires_grad=True)
    weight = torch.tensor([[logit], [0.0]], dtype=dtype, requires_grad=True)
    bias = torch.zeros(2, dtype=dtype, requires_grad=True)
    gate = torch.full((3,), p_gen_logit, requires_grad=True)
    scores = torch.tensor([[score, 0.0]] * 3, requires_grad=True)
    # in the vocabulary and the source; in the source alone; in the vocabulary alone
    matches = torch.tensor([[True, False], [True, False], [False, False]])
    mass = copied_mass(torch.log_softmax(scores, 1), matches)
    log_copied = torch.nn.functional.logsigmoid(-gate) + mass
    loss, nll = mixture_nll(
        readout, weight, bias, torch.tensor([0, -1, 0]), torch.nn.functional.logsigmoid(gate),
        log_copied, torch.full((3,), 1 / 3), 0.0,
    )  # fmt: skip
    loss.backward()
    assert loss.isfinite() and nll.isfinite().all() and (nll >= -1e-6).all()
    for tensor in (readout, weight, bias, gate, scores):
        assert tensor.grad.isfinite().all()


def test_a_target_without_any_probability_weighs_nothing():
    # attention of exactly 0 on the only word that matches, a target outside of the vocabulary
    log_attention = torch.tensor([[-math.inf, 0.0]])
    mass = copied_mass(log_attention, torch.tensor([[True, False]]))
    readout, weight = torch.randn(1, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    gate = torch.zeros(1, requires_grad=True)
    loss, nll = mixture_nll(
        readout, weight, torch.zeros(3), torch.tensor([-1]), torch.nn.functional.logsigmoid(gate),
        torch.nn.functional.logsigmoid(-gate) + mass, torch.ones(1), 0.1,
    )  # fmt: skip
    loss.backward()
    assert loss == 0 and nll == 0
    assert gate.grad == 0 and (readout.grad == 0).all() and (weight.grad == 0).all()


def test_copied_mass_adds_up_the_positions_of_a_repeated_word():
    log_attention = torch.tensor([[0.5, 0.2, 0.3]]).log().requires_grad_()
    matches = torch.tensor([[True, False, True]])
    mass = copied_mass(log_attention, matches)
    torch.testing.assert_close(mass.exp(), torch.tensor([0.5 + 0.3]))
    nothing = copied_mass(log_attention, torch.zeros(1, 3, dtype=torch.bool))
    assert nothing.item() == -math.inf
    gradient = torch.autograd.grad(
        torch.where(nothing > -math.inf, nothing, 0.0).sum() + mass.sum(), log_attention
    )
    assert gradient[0].isfinite().all()
