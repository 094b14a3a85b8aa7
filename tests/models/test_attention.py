"""Attention, held against keras.layers.Attention itself and against loops."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from precis.models.attention import SCORE_MODES, Attention, masked_log_softmax
from precis.models.coverage import attend_with_coverage


@pytest.fixture(scope="module")
def keras_attention():
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("Keras was imported with another backend before")
    return keras.layers.Attention


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 4),
        "queries": st.integers(1, 7),
        "keys": st.integers(1, 9),
        "size": st.integers(1, 6),
        "value_size": st.integers(1, 6),
        "score_mode": st.sampled_from(["dot", "concat"]),
        "scale": st.one_of(st.none(), st.floats(-2, 2)),
        "concat_weight": st.floats(-2, 2),
        "own_key": st.booleans(),
        "query_mask": st.booleans(),
        "value_mask": st.booleans(),
        "causal": st.booleans(),
        "dropout": st.sampled_from([0.0, 0.3, 0.8]),
        "training": st.booleans(),
        "seed": st.integers(0, 2**31 - 3),
        "magnitude": st.sampled_from([0.1, 1.0, 5.0]),
    }
)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=shapes)
def test_dot_and_concat_are_those_of_keras(case, keras_attention):
    generator = torch.Generator().manual_seed(case["seed"])

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * case["magnitude"]

    batch, num_queries, num_keys = case["batch"], case["queries"], case["keys"]
    query = draw(batch, num_queries, case["size"])
    value = draw(batch, num_keys, case["value_size"] if case["own_key"] else case["size"])
    key = draw(batch, num_keys, case["size"]) if case["own_key"] else None
    query_mask = value_mask = None
    if case["query_mask"]:
        query_mask = torch.rand(batch, num_queries, generator=generator) < 0.6
    if case["value_mask"]:
        value_mask = torch.rand(batch, num_keys, generator=generator) < 0.6
        value_mask[:, 0] = True  # a query with every key masked is where we depart
    use_scale = case["scale"] is not None
    ours = Attention(use_scale, case["score_mode"], dropout=case["dropout"], seed=case["seed"])
    theirs = keras_attention(
        use_scale=use_scale, score_mode=case["score_mode"], dropout=case["dropout"], seed=case["seed"]
    )
    inputs = [query, value] if key is None else [query, value, key]
    theirs.build([list(tensor.shape) for tensor in inputs])
    with torch.no_grad():
        if use_scale:
            ours.scale.fill_(case["scale"])
            theirs.scale.assign(case["scale"])
        if case["score_mode"] == "concat":
            ours.concat_score_weight.fill_(case["concat_weight"])
            theirs.concat_score_weight.assign(case["concat_weight"])
    ours.train(case["training"])
    for _ in range(2):  # twice: the second dropout is another one, in both
        output, scores = ours(
            query, value, key, query_mask, value_mask, case["causal"], return_attention_scores=True
        )
        expected, expected_scores = theirs(
            inputs,
            mask=[query_mask, value_mask],
            training=case["training"],
            use_causal_mask=case["causal"],
            return_attention_scores=True,
        )
        np.testing.assert_allclose(scores.detach().numpy(), expected_scores.detach().numpy(), atol=1e-5)
        np.testing.assert_allclose(output.detach().numpy(), expected.detach().numpy(), atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis")
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-5), ("bfloat16", 0.05), ("float16", 5e-3)])
@pytest.mark.parametrize("mode", ["dot", "concat"])
@pytest.mark.parametrize("causal", [False, True])
def test_other_floats_are_those_of_keras(dtype, tolerance, mode, causal, keras_attention):
    torch.manual_seed(5)
    query, value, key = (torch.randn(2, size, 6).to(getattr(torch, dtype)) for size in (3, 7, 7))
    masks = torch.tensor([[True, False, True]] * 2), torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    theirs = keras_attention(score_mode=mode, dtype=dtype)
    expected, expected_scores = theirs(
        [query, value, key], mask=list(masks), use_causal_mask=causal, return_attention_scores=True
    )
    output, scores = Attention(score_mode=mode).to(query.dtype)(query, value, key, *masks, causal, True)
    assert output.dtype == scores.dtype == query.dtype
    torch.testing.assert_close(output.double(), expected.double(), atol=tolerance, rtol=0)
    torch.testing.assert_close(scores.double(), expected_scores.double(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("mode", SCORE_MODES)
def test_a_product_outside_of_float16_leaves_finite_weights(mode):
    attention = Attention(score_mode=mode, query_size=64, key_size=64).half()
    query = torch.full((1, 2, 64), 300.0).half().requires_grad_()  # 64 * 300 * 300 is an infinity in float16
    value = torch.cat([torch.full((1, 3, 64), 300.0), torch.full((1, 1, 64), -300.0)], dim=1).half()
    output, weights = attention(query, value, return_attention_scores=True)
    assert output.isfinite().all()
    torch.testing.assert_close(weights.float().sum(2), torch.ones(1, 2), atol=2e-3, rtol=0)
    output.sum().backward()
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("mode", SCORE_MODES)
def test_it_compiles_without_a_break(mode):
    attention = Attention(True, mode, query_size=3, key_size=3)
    compiled = torch.compile(attention, backend="eager", fullgraph=True)
    query, value = torch.randn(2, 4, 3), torch.randn(2, 5, 3)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    expected = attention(query, value, value_mask=mask, use_causal_mask=True)
    torch.testing.assert_close(compiled(query, value, value_mask=mask, use_causal_mask=True), expected)


def test_without_scores_the_output_alone_is_returned():
    attention = Attention()
    query, value = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    output = attention(query, value)
    assert output.shape == (2, 3, 4)
    torch.testing.assert_close(output, torch.softmax(query @ value.transpose(1, 2), 2) @ value)


@pytest.mark.parametrize("mode", SCORE_MODES)
def test_a_query_with_every_key_masked_gets_zeros_and_finite_gradients(mode):
    attention = Attention(score_mode=mode, query_size=4, key_size=4)
    query, value = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 5, 4, requires_grad=True)
    value_mask = torch.tensor([[False] * 5, [True, False, True, False, False]])
    output, scores = attention(query, value, value_mask=value_mask, return_attention_scores=True)
    assert (scores[0] == 0).all() and (output[0] == 0).all()
    torch.testing.assert_close(scores[1].sum(1), torch.ones(3))
    output.sum().backward()
    assert query.grad.isfinite().all() and value.grad.isfinite().all()


@pytest.mark.parametrize("mode", SCORE_MODES)
@pytest.mark.parametrize("coverage", [False, True])
def test_scores_are_those_of_the_papers(mode, coverage):
    torch.manual_seed(1)
    same = mode in ("dot", "concat")
    query_size, key_size, attention_size = (4, 4, 4) if same else (3, 4, 5)
    attention = Attention(
        use_scale=True, score_mode=mode, query_size=query_size, key_size=key_size,
        attention_size=attention_size, coverage=True,
    ).double()  # fmt: skip
    with torch.no_grad():
        attention.scale.fill_(0.7)
        attention.w_c.normal_()
    query, key = torch.randn(2, 3, query_size).double(), torch.randn(2, 6, key_size).double()
    past = torch.rand(2, 3, 6).double()
    _, weights = attention(query, key, return_attention_scores=True, coverage=past if coverage else None)
    for b in range(2):
        for t in range(3):
            scores = []
            for i in range(6):
                c = past[b, t, i] if coverage else 0.0
                q, k = query[b, t], key[b, i]
                if mode == "dot":
                    score = 0.7 * (q @ (k + c * attention.w_c))
                elif mode == "general":
                    score = 0.7 * (attention.w.weight @ q) @ (k + c * attention.w_c)
                elif mode == "concat":
                    score = torch.tanh(0.7 * (q + k + c * attention.w_c)).sum()
                else:
                    inside = attention.w_h.weight @ k + attention.w_s.weight @ q + attention.w_s.bias
                    score = attention.v @ torch.tanh(0.7 * (inside + c * attention.w_c))
                scores.append(score.item())
            exps = [math.exp(score - max(scores)) for score in scores]
            expected = [value / sum(exps) for value in exps]
            np.testing.assert_allclose(weights[b, t].detach().numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("mode", SCORE_MODES)
def test_coverage_is_the_sum_of_all_attention_before(mode):
    torch.manual_seed(2)
    attention = Attention(score_mode=mode, query_size=4, key_size=4, coverage=True).double()
    with torch.no_grad():
        attention.w_c.normal_()
    queries = attention.project_queries(torch.randn(2, 5, 4).double())
    keys = attention.project_keys(torch.randn(2, 6, 4).double())
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    log_attention, losses = attend_with_coverage(attention, queries, keys, mask)
    weights = log_attention.exp()
    for b in range(2):
        coverage = torch.zeros(6).double()
        for t in range(5):
            torch.testing.assert_close(coverage.sum(), torch.tensor(float(t)).double())
            scores = attention.scores(queries[b : b + 1, t : t + 1], keys[b : b + 1], coverage[None, None])
            expected = masked_log_softmax(scores, mask[b][None, None])[0, 0].exp()
            torch.testing.assert_close(weights[b, t], expected)
            # eq. 12: the sum of min(a_i, c_i)
            expected_loss = sum(min(a.item(), c.item()) for a, c in zip(weights[b, t], coverage, strict=True))
            assert losses[b, t].item() == pytest.approx(expected_loss, abs=1e-12)
            coverage = coverage + weights[b, t]


@pytest.mark.parametrize("mode", SCORE_MODES)
@pytest.mark.parametrize("coverage", [False, True])
@pytest.mark.parametrize("keeps", [False, True])
def test_gradients_are_those_of_finite_differences(mode, coverage, keeps, monkeypatch):
    monkeypatch.setattr("precis.models.additive._MOST_KEPT", 10**6 if keeps else 0)
    torch.manual_seed(3)
    attention = Attention(score_mode=mode, query_size=3, key_size=3, coverage=True).double()
    with torch.no_grad():
        attention.w_c.normal_()
    queries = torch.randn(2, 4, 3).double().requires_grad_()
    keys = torch.randn(2, 5, 3).double().requires_grad_()
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    sizes = [(4, 5), (2, 3)]
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    parameters = list(attention.parameters())

    def run(queries, keys, *_):
        projected, prepared = attention.project_queries(queries), attention.project_keys(keys)
        if coverage:
            log_attention, losses = attend_with_coverage(attention, projected, prepared, mask, sizes)
            return log_attention.exp()[real], losses[real]
        scores = attention.scores(projected, prepared, sizes=sizes)
        return masked_log_softmax(scores, mask[:, None]).exp()[real]

    assert torch.autograd.gradcheck(run, (queries, keys, *parameters), atol=1e-6)


@pytest.mark.parametrize("mode", SCORE_MODES)
@pytest.mark.parametrize("coverage", [False, True])
@pytest.mark.parametrize("use_scale", [False, True])
def test_scores_of_one_step_after_another_are_the_same(mode, coverage, use_scale):
    torch.manual_seed(4)
    attention = Attention(use_scale, mode, query_size=3, key_size=3, coverage=True).double()
    with torch.no_grad():
        attention.w_c.normal_()
        if use_scale:
            attention.scale.fill_(0.7)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [False] * 5])
    leaves = [torch.randn(3, size, 3).double().requires_grad_() for size in (1, 5)]
    leaves.append(torch.rand(3, 1, 5).double().requires_grad_())
    parameters = list(attention.parameters())

    def run(queries, keys, past, *_):
        projected, prepared = attention.project_queries(queries), attention.project_keys(keys)
        return attention.scorer(prepared, mask)(projected, past if coverage else None)[mask[:, None]]

    queries, keys, past = leaves
    plain = attention.scores(
        attention.project_queries(queries), attention.project_keys(keys), past if coverage else None
    )
    torch.testing.assert_close(run(*leaves), plain[mask[:, None]])
    assert torch.autograd.gradcheck(run, (*leaves, *parameters), atol=1e-6)


def test_huge_scores_neither_overflow_nor_lose_a_gradient():
    scores = torch.tensor([[[1e4, -1e4, 0.0, 1e4]]], requires_grad=True)
    mask = torch.tensor([[[True, True, True, False]]])
    log_weights = masked_log_softmax(scores, mask)
    assert log_weights[0, 0, :3].tolist() == [0.0, -2e4, -1e4]
    log_weights[0, 0, 1].backward()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize(
    ("query", "value", "key", "masks", "message"),
    [
        ((2, 3), (2, 5, 4), None, {}, "query has shape .2, 3., expected .batch, positions, features."),
        ((2, 3, 4), (3, 5, 4), None, {}, "differ in their batch sizes"),
        ((2, 3, 4), (2, 5, 4), (2, 6, 4), {}, "5 values but 6 keys"),
        ((2, 3, 4), (2, 5, 3), None, {}, "query has 4 features but key has 3"),
        ((2, 3, 4), (2, 5, 4), None, {"value_mask": torch.ones(2, 3, dtype=bool)}, "value_mask has shape"),
        ((2, 3, 4), (2, 5, 4), None, {"query_mask": torch.ones(2, 3)}, "query_mask is torch.float32"),
        ((2, 3, 4), (2, 5, 4), None, {"query_mask": np.ones((2, 3), bool)}, "query_mask is a ndarray"),
        (
            (2, 3, 4),
            (2, 5, 4),
            None,
            {"coverage": torch.ones(2, 5, 3)},
            "coverage has shape .2, 5, 3., expected .2, 3, 5",
        ),
        (
            (2, 3, 4),
            (2, 5, 4),
            None,
            {"key": torch.zeros(2, 5, 4).double()},
            "types differ: torch.float32, torch.float32 and torch.float64",
        ),
        (
            (2, 3, 4),
            (2, 5, 4),
            None,
            {"key": torch.zeros(2, 5, 4).long()},
            "key is torch.int64, expected floating",
        ),
    ],
)
def test_wrong_shapes_get_one_clear_message(query, value, key, masks, message):
    tensors = [None if shape is None else torch.zeros(shape) for shape in (query, value, key)]
    with pytest.raises(ValueError, match=message):
        Attention(key_size=4, coverage=True)(*tensors[: 2 if key is None else 3], **masks)


def test_arguments_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"'cosine'; expected one of dot, general, concat, additive"):
        Attention(score_mode="cosine")
    with pytest.raises(ValueError, match="needs query_size and key_size"):
        Attention(score_mode="additive")
    with pytest.raises(ValueError, match=r"dropout is 1.5"):
        Attention(dropout=1.5)
    with pytest.raises(ValueError, match="built without coverage"):
        Attention()(torch.zeros(1, 1, 2), torch.zeros(1, 3, 2), coverage=torch.zeros(1, 1, 3))
