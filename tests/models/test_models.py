"""The three models: every option trains and decodes, batches do not matter, steps equal teacher forcing."""

import itertools
import math

import pytest
import torch

from precis.errors import PrecisError
from precis.models.build import MODELS, build_model, options_of
from precis.models.mixture import final_log_probs
from precis.models.presets import PRESETS
from precis.models.source import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Source, Target

CELLS = ["rnn", "gru", "lstm"]
VARIANTS = [
    *[("encoder_decoder", {"cell": cell, "bidirectional": both}) for cell in CELLS for both in (True, False)],
    *[
        (name, {"cell": cell, "attention": mode, "decoder_size": 8, "layers": layers})
        for name, cell, mode, layers in itertools.product(
            ("attention", "pointer"), CELLS, ("dot", "general", "concat", "additive"), (1, 2)
        )
    ],
    *[("pointer", {"attention": mode, "decoder_size": 8, "coverage": True, "input_feeding": feeding})
      for mode in ("dot", "general", "concat", "additive") for feeding in (False, True)],
    ("attention", {"coverage": True}),
    ("attention", {"input_feeding": True, "intra_attention": True, "layers": 2}),
    ("pointer", {"intra_attention": True}),
    ("pointer", {"intra_attention": True, "input_feeding": True, "coverage": True, "cell": "gru"}),
    ("pointer", {"attend_with_cell": True, "attention": "additive"}),
    ("pointer", {"attend_with_cell": True, "input_feeding": True, "coverage": True, "readout": "linear"}),
    ("pointer", {"generation": "pointer_only"}),
    ("pointer", {"generation": "pointer_only", "coverage": True, "pointing_weight": 0.5}),
    ("pointer", {"pointing_weight": 0.5, "coverage": True, "coverage_weight": 0.3, "bidirectional": False}),
    *[
        (name, {"tie_embeddings": True, "shared_vocabulary": shared, "source_vocabulary_size": 19 if shared else 23})
        for name in MODELS for shared in (True, False)
    ],
    *[(name, {"dropout": 0.4, "word_dropout": 0.3, "label_smoothing": 0.1, "layers": 2}) for name in MODELS],
]  # fmt: skip


def variant_id(variant):
    name, options = variant
    return f"{name}-" + ",".join(f"{key}={value}" for key, value in options.items())


@pytest.fixture(params=VARIANTS, ids=variant_id)
def variant(request, make_model):
    name, options = request.param
    return make_model(name, **options)


def test_each_option_trains_one_step_and_decodes_one_batch(variant, make_batch):
    source, target = make_batch()
    losses = variant.training_loss(source, target)
    losses.total.backward()
    for name, parameter in variant.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    before = losses.total.item()
    torch.optim.SGD(variant.parameters(), lr=0.01).step()
    if not any(variant.options.get(key) for key in ("dropout", "word_dropout")):
        assert variant.training_loss(source, target).total.item() < before
    variant.eval()
    with torch.no_grad():
        memory = variant.encode(source)
        state = variant.initial_state(memory, beams=3)
        previous = torch.full((5, 3), BOS_ID)
        for _ in range(3):
            step = variant.step(memory, state, previous)
            final = final_log_probs(step, source.extended_ids, source.num_oovs)
            assert final.shape == (5, 3, 19 + 2)
            torch.testing.assert_close(final.exp().sum(2), torch.ones(5, 3), atol=1e-5, rtol=0)
            if step.attention is not None:
                torch.testing.assert_close(step.attention.sum(2), torch.ones(5, 3), atol=1e-5, rtol=0)
                assert (step.attention.masked_select(~source.mask[:, None]) == 0).all()
            for tensor in step.state.values():
                assert tensor.shape[:2] == (5, 3)
            state = step.state
            previous = final.argmax(2)
            previous = previous.masked_fill(previous >= 19, UNK_ID)


def test_teacher_forcing_equals_one_step_at_a_time(variant, make_batch):
    variant.eval()
    source, target = make_batch()
    losses = variant.training_loss(source, target)
    is_pointer = variant.name == "pointer"
    nll, num_tokens, num_unreachable = 0.0, 0, 0
    coverage_loss = 0.0
    with torch.no_grad():
        memory = variant.encode(source)
        state = variant.initial_state(memory, beams=1)
        for t in range(target.ids.shape[1]):
            past = state.get("coverage")
            step = variant.step(memory, state, target.inputs[:, t : t + 1])
            state = step.state
            final = final_log_probs(step, source.extended_ids, source.num_oovs)[:, 0]
            for row, word in enumerate(target.ids[:, t].tolist()):
                if word == PAD_ID:
                    continue
                log_prob = final[row, word].item()
                if word == UNK_ID or log_prob == -math.inf:
                    num_unreachable += 1
                    continue
                num_tokens += 1
                nll -= log_prob
                if past is not None:
                    coverage_loss += torch.minimum(step.attention[row, 0], past[row, 0]).sum().item()
    assert losses.num_tokens.item() == num_tokens
    assert losses.num_unreachable.item() == num_unreachable
    assert losses.nll_sum.item() == pytest.approx(nll, abs=1e-4)
    assert (losses.pointing is not None) == is_pointer
    if losses.coverage is not None:
        assert losses.coverage.item() == pytest.approx(coverage_loss / num_tokens, abs=1e-5)


def pad_more(source, target):
    def wider(ids, by):
        return torch.nn.functional.pad(ids, (0, by))

    padded = Source(wider(source.ids, 5), wider(source.extended_ids, 5), source.lengths, source.num_oovs)
    return padded, Target(wider(target.inputs, 3), wider(target.ids, 3))


def one_row(source, target, row):
    pick = slice(row, row + 1)
    length = int(source.lengths[row])
    steps = int((target.ids[row] != PAD_ID).sum())
    single = Source(
        source.ids[pick, :length], source.extended_ids[pick, :length], source.lengths[pick], source.num_oovs
    )
    return single, Target(target.inputs[pick, :steps], target.ids[pick, :steps])


def test_padding_batch_size_and_order_change_nothing(variant, make_batch):
    variant.eval()
    source, target = make_batch(num_rows=8)
    with torch.no_grad():
        together = variant.training_loss(source, target).nll_sum
        more = variant.training_loss(*pad_more(source, target)).nll_sum
        singles = [variant.training_loss(*one_row(source, target, row)).nll_sum for row in range(8)]
        order = torch.tensor([3, 0, 7, 1, 5, 2, 6, 4])
        shuffled = Source(
            source.ids[order], source.extended_ids[order], source.lengths[order], source.num_oovs
        )
        other = variant.training_loss(shuffled, Target(target.inputs[order], target.ids[order])).nll_sum
        beams_of = variant.initial_state(variant.encode(source), 2)
        alone = [variant.encode(one_row(source, target, row)[0]) for row in range(8)]
    scale = max(1.0, together.item())  # a sum of some 30 numbers of float32
    assert abs(more - together) / scale < 1e-6
    assert abs(other - together) / scale < 1e-6
    assert abs(sum(singles) - together) / scale < 1e-6
    for row, memory in enumerate(alone):
        state = variant.initial_state(memory, 2)
        torch.testing.assert_close(state["hidden"][0], beams_of["hidden"][row], atol=1e-6, rtol=0)


@pytest.mark.parametrize("precision", ["autocast", "bfloat16"])
def test_half_precision_trains_to_finite_numbers_near_the_full_ones(precision, variant, make_batch):
    source, target = make_batch()
    torch.manual_seed(1)
    full = variant.training_loss(source, target).total.item()
    torch.manual_seed(1)
    if precision == "bfloat16":
        variant.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        losses = variant.training_loss(source, target)
    losses.total.backward()
    assert losses.total.item() == pytest.approx(full, rel=0.15)
    assert all(parameter.grad.isfinite().all() for parameter in variant.parameters())


def test_an_empty_source_leaves_every_number_finite(variant, make_batch):
    source, target = make_batch()
    lengths = source.lengths.clone()
    lengths[2] = 0
    emptied = source.mask & (lengths > 0)[:, None]
    source = Source(source.ids * emptied, source.extended_ids * emptied, lengths, source.num_oovs)
    losses = variant.training_loss(source, target)
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in variant.parameters())
    with torch.no_grad():
        memory = variant.encode(source)
        step = variant.step(memory, variant.initial_state(memory, 2), torch.full((5, 2), BOS_ID))
    assert not step.vocab_log_probs.isnan().any()
    assert step.attention is None or (step.attention[2] == 0).all()


def test_intra_decoder_attention_is_that_of_paulus_et_al(make_model):
    decoder = make_model("pointer", intra_attention=True).seq2seq.decoder
    outputs = torch.randn(2, 4, 7)
    contexts = decoder._attend_to_past(outputs)
    weight = decoder.intra_attention.w.weight
    for b in range(2):
        assert (contexts[b, 0] == 0).all()  # nothing was decoded before the first step
        for t in range(1, 4):
            # e_tt' = h_t W h_t', softmax over t' < t, and the weighted sum of the h_t' (eq. 6 to 8)
            exps = torch.stack([(weight @ outputs[b, t] @ outputs[b, past]).exp() for past in range(t)])
            expected = (exps / exps.sum()) @ outputs[b, :t]
            torch.testing.assert_close(contexts[b, t], expected, atol=1e-5, rtol=0)


def test_word_dropout_replaces_input_words_and_never_the_marks(make_model, make_batch):
    model = make_model("attention", word_dropout=0.5)
    source, _ = make_batch(num_rows=40)
    dropped = model.embeddings._drop_words(source.ids, source.mask)
    changed = dropped != source.ids
    assert (dropped[changed] == UNK_ID).all() and (dropped[~source.mask] == PAD_ID).all()
    share = (dropped == UNK_ID)[source.mask & (source.ids != UNK_ID)].float().mean()
    assert 0.35 < share < 0.65
    assert torch.equal(model.eval().embeddings._drop_words(source.ids, source.mask), source.ids)


def test_the_same_seed_gives_the_same_bits(make_model, make_batch):
    def train():
        model = make_model("pointer", dropout=0.3, word_dropout=0.1, coverage=True, shared_vocabulary=True,
                           source_vocabulary_size=19, tie_embeddings=True)  # fmt: skip
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
        torch.manual_seed(3)
        for seed in range(3):
            optimizer.zero_grad()
            model.training_loss(*make_batch(num_rows=8, source_size=19, seed=seed)).total.backward()
            optimizer.step()
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(train(), train())
    finally:
        torch.set_num_threads(threads)


def test_see_et_al_have_as_many_parameters_as_they_report():
    def num_parameters(**changes):
        options = {**PRESETS["see2017"], **changes}
        name = "pointer" if "generation" in options else "attention"
        with torch.device("meta"):
            model = build_model(name, **{key: options[key] for key in options_of(name)})
        return sum(parameter.numel() for parameter in model.parameters())

    embedding = 50_000 * 128
    encoder = 2 * (4 * 256 * (128 + 256) + 4 * 256)  # two directions, one bias for each gate
    reducers = 2 * (512 * 256 + 256)  # of h and of c
    decoder = 4 * 256 * (128 + 256) + 4 * 256
    merge = (128 + 512) * 128 + 128  # of the word and the context
    attention = 512 * 512 + (512 * 512 + 512) + 512  # W_h; W_s with b_attn; v
    output = (256 + 512) * 256 + 256
    softmax = 256 * 50_000 + 50_000
    baseline = embedding + encoder + reducers + decoder + merge + attention + output + softmax
    assert baseline == 21_499_600
    pointer = 512 + 512 + 128 + 1  # context; c and h; input; bias
    without_pointer = {key: value for key, value in PRESETS["see2017"].items() if key != "generation"}
    with torch.device("meta"):
        seq2seq = build_model("attention", **{**without_pointer, "coverage": False})
    assert sum(parameter.numel() for parameter in seq2seq.parameters()) == 21_499_600
    assert num_parameters(coverage=False) == 21_499_600 + pointer == 21_499_600 + 1_153
    assert num_parameters() == 21_499_600 + 1_153 + 512


def test_tied_embeddings_are_one_matrix(make_model):
    model = make_model("pointer", tie_embeddings=True, shared_vocabulary=True, source_vocabulary_size=19)
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert shapes.count((19, 6)) == 1
    assert not any(shape[0] in (19, 23) and len(shape) == 2 and shape != (19, 6) for shape in shapes)


def test_coverage_can_be_switched_on_later(make_model, make_batch):
    source, target = make_batch()
    model = make_model("pointer", coverage=True).eval()
    on = model.training_loss(source, target)
    model.switch_coverage(False)
    off = model.training_loss(source, target)
    assert off.coverage is None and on.coverage is not None
    assert off.nll_sum != on.nll_sum
    assert "coverage" not in model.initial_state(model.encode(source), 2)
    assert model.options["coverage_on"] is False
    again = build_model("pointer", **model.options).eval()
    again.load_state_dict(model.state_dict())
    assert again.training_loss(source, target).nll_sum == off.nll_sum
    model.switch_coverage(True)
    assert model.training_loss(source, target).nll_sum == on.nll_sum
    with pytest.raises(PrecisError, match="no coverage"):
        make_model("pointer").switch_coverage(True)


def test_a_step_changes_nothing_in_place(make_model, make_batch):
    source, _ = make_batch()
    model = make_model("pointer", coverage=True, input_feeding=True, intra_attention=True).eval()
    with torch.no_grad():
        memory = model.encode(source)
        state = model.step(memory, model.initial_state(memory, 2), torch.full((5, 2), BOS_ID)).state
        copies = {key: value.clone() for key, value in {**state, **memory}.items()}
        model.step(memory, state, torch.full((5, 2), EOS_ID))
    for key, value in {**state, **memory}.items():
        assert torch.equal(value, copies[key])


def test_every_problem_with_the_options_is_told_at_once():
    with pytest.raises(PrecisError) as error:
        build_model(
            "attention", source_vocabulary_size=0, target_vocabulary_size=5, shared_vocabulary=True,
            cell="qrnn", dropout=1.0, beams=4,
        )  # fmt: skip
    message = str(error.value)
    for part in (
        "source_vocabulary_size: expected a whole number of at least 1, found 0",
        "cell: expected one of rnn, gru, lstm, found 'qrnn'",
        "dropout: expected a number from 0 to less than 1, found 1.0",
        "beams: unknown option",
        "embedding_size: missing",
        "one vocabulary has one size",
    ):
        assert part in message


def test_options_that_do_not_go_together_are_refused(make_model):
    with pytest.raises(PrecisError, match="needs queries as wide as the encoder states, 8; found 7"):
        make_model("attention", attention="dot")
    with pytest.raises(
        PrecisError, match="attend_with_cell needs the cell state of an LSTM, but cell is 'gru'"
    ):
        make_model("attention", attend_with_cell=True, cell="gru")
    with pytest.raises(
        PrecisError, match="no model 'transformer'; expected one of encoder_decoder, attention, pointer"
    ):
        build_model("transformer", source_vocabulary_size=1, target_vocabulary_size=1, shared_vocabulary=True)


@pytest.mark.parametrize("name", ["attention", "pointer"])
def test_the_pointing_loss_equals_plain_loops(name, make_model, make_batch):
    model = make_model(name, pointing_weight=0.7).double().eval()
    source, target = make_batch()
    memory = model.encode(source)
    state = model.initial_state(memory, beams=1)
    pointing, num_tokens = 0.0, 0
    for t in range(target.ids.shape[1]):
        step = model.step(memory, state, target.inputs[:, t : t + 1])
        state = step.state
        for row, word in enumerate(target.ids[:, t].tolist()):
            places = [
                place for place, of in enumerate(source.extended_ids[row].tolist()) if of == word != PAD_ID
            ]
            if word in (PAD_ID, UNK_ID) or (word >= 19 and not (places and name == "pointer")):
                continue  # padding, and what nothing can produce
            num_tokens += 1
            if places:
                mass = sum(step.attention[row, 0, place] for place in places)
                pointing = pointing - torch.log(mass)
    losses = model.training_loss(source, target)
    assert losses.num_tokens.item() == num_tokens
    torch.testing.assert_close(losses.pointing, (pointing / num_tokens).detach(), atol=1e-6, rtol=0)
    plain = losses.nll_sum / num_tokens
    torch.testing.assert_close(losses.total.detach(), plain + 0.7 * losses.pointing, atol=1e-6, rtol=0)

    def gradients(loss):
        found = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        return [gradient if gradient is not None else torch.zeros(1) for gradient in found]

    alone = make_model(name).double().eval()
    without = torch.autograd.grad(alone.training_loss(source, target).total, list(alone.parameters()))
    expected = [
        base + 0.7 * extra for base, extra in zip(without, gradients(pointing / num_tokens), strict=True)
    ]
    torch.testing.assert_close(gradients(losses.total), expected, atol=1e-6, rtol=0)
