"""R-Drop: what two readings of a batch differ by, and what training makes of it."""

import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from precis.models import consistency
from precis.models.consistency import disagreement
from precis.models.source import PAD_ID

NAMES = ["encoder_decoder", "attention", "pointer"]


def distributions(model, source, target):
    """What the model chooses from after each word of the summaries, one list for each summary."""
    memory = model.encode(source)
    state = model.initial_state(memory, beams=1)
    chosen = [[] for _ in source.ids]
    for t in range(target.ids.shape[1]):
        step = model.step(memory, state, target.inputs[:, t : t + 1])
        state = step.state
        parts = step.vocab_log_probs.exp()
        if step.p_gen_logit is not None:
            p_gen = torch.sigmoid(step.p_gen_logit)
            parts = torch.cat([p_gen * parts, (1 - p_gen) * step.attention], dim=2)
        for row in range(len(source.ids)):
            chosen[row].append(parts[row, 0])
    return chosen


def test_the_disagreement_is_the_symmetric_divergence():
    torch.manual_seed(0)
    log_probs = torch.log_softmax(3 * torch.randn(10, 7, dtype=torch.float64), dim=1)
    weights = torch.rand(5, dtype=torch.float64).repeat(2)
    one, other = Categorical(logits=log_probs[:5]), Categorical(logits=log_probs[5:])
    expected = weights[:5] * (kl_divergence(one, other) + kl_divergence(other, one))
    found = disagreement(log_probs.__getitem__, weights, num_choices=7)
    torch.testing.assert_close(found, expected.sum())


def test_what_cannot_be_chosen_changes_nothing():
    log_probs = torch.log_softmax(torch.randn(6, 5), dim=1)
    padded = torch.nn.functional.pad(log_probs, (0, 3), value=-torch.inf).requires_grad_()
    found = disagreement(padded.__getitem__, torch.ones(6), num_choices=8)
    torch.testing.assert_close(found, disagreement(log_probs.__getitem__, torch.ones(6), num_choices=5))
    assert torch.autograd.grad(found, padded)[0].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_blocks_give_the_same_loss_and_gradient(name, make_model, make_batch, monkeypatch):
    def loss_and_gradients():
        torch.manual_seed(3)
        losses = model.training_loss(*make_batch(), consistency_weight=2.0)
        return losses.total, torch.autograd.grad(losses.total, list(model.parameters()))

    model = make_model(name, dropout=0.4).double()
    at_once = loss_and_gradients()
    monkeypatch.setattr(consistency, "_MAX_NUMBERS", 100)  # three rows or five
    torch.testing.assert_close(loss_and_gradients(), at_once)


@pytest.mark.parametrize("name", NAMES)
def test_without_dropout_both_readings_agree(name, make_model, make_batch):
    model = make_model(name).double()
    source, target = make_batch()
    once = model.training_loss(source, target)
    losses = model.training_loss(source, target, consistency_weight=5.0)
    assert once.consistency is None and losses.consistency.abs() < 1e-12
    torch.testing.assert_close(losses.total, once.total, check_dtype=False)
    assert losses.num_tokens == 2 * once.num_tokens
    torch.testing.assert_close(losses.nll_sum, 2 * once.nll_sum, check_dtype=False)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in NAMES), ("pointer", {"generation": "pointer_only"})]
)
def test_the_loss_is_that_of_two_different_readings(name, options, make_model, make_batch):
    """The second half of the batch reads other words, as dropout of words would have it, so that loops can follow."""
    model = make_model(name, **options).double().eval()
    source, target = make_batch(num_rows=4)
    other, _ = make_batch(num_rows=4, seed=0)
    other.ids[other.ids > 3] = torch.randint(4, 19, (int((other.ids > 3).sum()),))

    def as_readings(source, target):
        return (
            type(source)(
                torch.cat([source.ids, other.ids]),
                source.extended_ids.repeat(2, 1),
                source.lengths.repeat(2),
                2,
            ),
            type(target)(target.inputs.repeat(2, 1), target.ids.repeat(2, 1)),
        )

    expected = number = 0.0
    words, copies = 19, name == "pointer"
    pairs = zip(distributions(model, source, target), distributions(model, other, target), strict=True)
    for row, (one, two) in enumerate(pairs):
        for word, p, q in zip(target.ids[row].tolist(), one, two, strict=True):
            generates = words if "generation" not in options else 4
            known = 3 <= word < generates or (
                copies and word > 3 and (source.extended_ids[row] == word).any()
            )
            if word == PAD_ID or not known:
                continue
            first, second = (Categorical(probs=probs[probs > 0]) for probs in (p, q))
            expected = expected + (kl_divergence(first, second) + kl_divergence(second, first)) / 2
            number += 1
    with pytest.MonkeyPatch.context() as patch:
        for module in ("encoder_decoder", "attention_seq2seq", "pointer_generator"):
            patch.setattr(f"precis.models.{module}.twice", as_readings)
        losses = model.training_loss(source, target, consistency_weight=3.0)
    assert losses.num_tokens == 2 * number
    torch.testing.assert_close(
        losses.consistency, (expected / number).detach(), atol=1e-6, rtol=1e-5, check_dtype=False
    )
    plain = losses.nll_sum / losses.num_tokens
    torch.testing.assert_close(
        losses.total.detach(), plain + 1.5 * losses.consistency, atol=1e-6, rtol=0, check_dtype=False
    )


@pytest.mark.parametrize("name", NAMES)
def test_training_with_it_makes_readings_agree(name, make_model, make_batch):
    def after_training(weight):
        model = make_model(name, dropout=0.5)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        batch = make_batch(num_rows=8)
        torch.manual_seed(5)
        for _ in range(60):
            optimizer.zero_grad()
            model.training_loss(*batch, consistency_weight=weight).total.backward()
            optimizer.step()
        with torch.no_grad():
            return sum(model.training_loss(*batch, consistency_weight=1.0).consistency for _ in range(20))

    assert after_training(10.0) < 0.5 * after_training(0.0)
