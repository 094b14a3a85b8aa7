"""Attention: how much each source position matters to each query."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from precis.models.additive import PackedKeys, additive_scores

SCORE_MODES = ("dot", "general", "concat", "additive")


def masked_log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log a^t: log-softmax over the last dimension of what `mask` (True at words) lets through.

    -inf where masked, and in a row with every position masked; gradients are finite in either case.
    Computed in float32 at least, so that no score of a half-precision model overflows.
    """
    if scores.dtype in (torch.float16, torch.bfloat16):
        # a product that left the range of float16 is an infinity, and infinity less itself would be NaN
        limits = torch.finfo(torch.float32)
        scores = scores.float().clamp(limits.min, limits.max)
    # the lowest finite number and not -inf: a row that is masked as a whole would become NaN
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return torch.log_softmax(filled, dim=-1).masked_fill(~mask, -math.inf)


class Attention(nn.Module):
    """Attention of queries over keys, and the weighted sum of the values.

    With queries q_t and keys k_i, the scores are

    - `dot`: scale * q_t . k_i (Luong et al., 2015);
    - `general`: scale * q_t . W k_i (Luong et al., 2015);
    - `concat`: concat_score_weight * sum_d tanh(scale * (q_t + k_i))_d (as Keras has it);
    - `additive`: v . tanh(scale * (w_h k_i + w_s q_t + b_attn)) (See et al., 2017, eq. 1); with coverage,
      + w_c c_i^t inside the tanh (eq. 11).

    where scale is a learned number with `use_scale`, and 1 without. `dot` and `concat` equal
    `keras.layers.Attention` number for number, in training too if a seed is given, with one departure: a
    query with every key masked gets weights and an output of 0, where Keras gives it uniform weights.

    With coverage, `dot`, `concat` and `general` see the keys k_i + w_c c_i^t; w_c starts at 0.

    Args:
        use_scale: learn a scale; it starts at 1.
        score_mode: one of dot, general, concat, additive.
        dropout: share of the weights that is dropped in training mode.
        seed: of the dropout; None: torch's own generator.
        query_size: size of a query; `general` and `additive` need it, as do the next two.
        key_size: size of a key; also needed for coverage.
        attention_size: rows of w_h and w_s; None: key_size. `additive` only.
        coverage: have the weight w_c.

    Raises:
        ValueError: a mode that there is not, a size that is missing, a dropout outside of [0, 1].
    """

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        *,
        query_size: int | None = None,
        key_size: int | None = None,
        attention_size: int | None = None,
        coverage: bool = False,
    ) -> None:
        super().__init__()
        if score_mode not in SCORE_MODES:
            raise ValueError(f"score_mode is {score_mode!r}; expected one of {', '.join(SCORE_MODES)}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}; expected a number from 0 to 1")
        if score_mode in ("general", "additive") and (query_size is None or key_size is None):
            raise ValueError(f"score_mode {score_mode!r} has weights: it needs query_size and key_size")
        if coverage and key_size is None:
            raise ValueError("coverage has a weight: it needs key_size")
        self.score_mode = score_mode
        self.dropout = dropout
        self.seed = seed
        self._num_dropouts = 0  # as in Keras, each call in training mode draws from seed, seed + 1, ...
        self.scale = nn.Parameter(torch.ones(())) if use_scale else None
        self.concat_score_weight = nn.Parameter(torch.ones(())) if score_mode == "concat" else None
        self.w: nn.Linear | None = None
        self.w_h: nn.Linear | None = None
        self.w_s: nn.Linear | None = None
        self.v: nn.Parameter | None = None
        feature_size = key_size
        if score_mode == "general" and query_size is not None and key_size is not None:
            self.w = nn.Linear(query_size, key_size, bias=False)
        if score_mode == "additive" and query_size is not None and key_size is not None:
            feature_size = attention_size if attention_size is not None else key_size
            self.w_h = nn.Linear(key_size, feature_size, bias=False)
            self.w_s = nn.Linear(query_size, feature_size)  # its bias is b_attn
            self.v = nn.Parameter(torch.empty(feature_size).uniform_(-1, 1).div_(math.sqrt(feature_size)))
        self.w_c = nn.Parameter(torch.zeros(feature_size)) if coverage and feature_size is not None else None

    @overload
    def forward(
        self, query: Tensor, value: Tensor, key: Tensor | None = ..., query_mask: Tensor | None = ...,
        value_mask: Tensor | None = ..., use_causal_mask: bool = ..., *,
        return_attention_scores: Literal[False] = ..., coverage: Tensor | None = ...,
    ) -> Tensor: ...  # fmt: skip

    @overload
    def forward(
        self, query: Tensor, value: Tensor, key: Tensor | None = ..., query_mask: Tensor | None = ...,
        value_mask: Tensor | None = ..., use_causal_mask: bool = ..., *,
        return_attention_scores: Literal[True], coverage: Tensor | None = ...,
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip

    @overload
    def forward(
        self, query: Tensor, value: Tensor, key: Tensor | None = ..., query_mask: Tensor | None = ...,
        value_mask: Tensor | None = ..., use_causal_mask: bool = ..., return_attention_scores: bool = ...,
        coverage: Tensor | None = ...,
    ) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        use_causal_mask: bool = False,
        return_attention_scores: bool = False,
        coverage: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend.

        Args:
            query: (B, Tq, D).
            value: (B, Tv, Dv).
            key: (B, Tv, D); None: the values.
            query_mask: True at words, (B, Tq); the output is 0 elsewhere.
            value_mask: True at words, (B, Tv); the weights are 0 elsewhere.
            use_causal_mask: query t sees keys up to t only, also when Tq and Tv differ.
            return_attention_scores: return the weights as well.
            coverage: c^t, (B, Tq, Tv).

        Returns:
            the weighted sums of the values (B, Tq, Dv), and if asked the weights (B, Tq, Tv) that they were
            made with (in training: after dropout). Each row of weights sums to 1, or to 0 if all is masked.

        Raises:
            ValueError: shapes or types that do not fit.
        """
        key = value if key is None else key
        self._check(query, value, key, query_mask, value_mask, coverage)
        scores = self.scores(self.project_queries(query), self.project_keys(key), coverage)
        mask = torch.ones(1, 1, key.shape[1], dtype=torch.bool, device=query.device)
        if value_mask is not None:
            mask = value_mask[:, None, :]
        if use_causal_mask:
            num_queries, num_keys = query.shape[1], key.shape[1]
            mask = mask & mask.new_ones(num_queries, num_keys).tril()
        weights = masked_log_softmax(scores, mask).exp().to(value.dtype)
        weights = self._drop(weights)
        output = weights @ value
        if query_mask is not None:
            output = output.masked_fill(~query_mask[:, :, None], 0.0)
        return (output, weights) if return_attention_scores else output

    def project_keys(self, key: Tensor) -> Tensor:
        """What the scores need of the keys, once for all queries: w_h k_i for `additive`."""
        projected: Tensor = key if self.w_h is None else self.w_h(key)
        return projected

    def project_queries(self, query: Tensor) -> Tensor:
        """What the scores need of the queries: W^T q_t for `general`, w_s q_t + b_attn for `additive`."""
        project = self.w if self.w is not None else self.w_s
        projected: Tensor = query if project is None else project(query)
        return projected

    def scores(
        self,
        queries: Tensor,
        keys: Tensor,
        coverage: Tensor | None = None,
        sizes: Sequence[tuple[int, int]] | None = None,
    ) -> Tensor:
        """Scores (B, Tq, Tv) of projected queries (B, Tq, A) and keys (B, Tv, A), before any mask.

        Args:
            queries: of `project_queries`.
            keys: of `project_keys`.
            coverage: c^t, (B, Tq, Tv).
            sizes: queries and keys of each document, outside of which nothing is asked for; None: all.
        """
        if coverage is not None and self.w_c is None:
            raise ValueError("this attention was built without coverage")
        if self.score_mode in ("dot", "general"):
            scores = queries @ keys.transpose(1, 2)
            scores = scores if self.scale is None else scores * self.scale
            if coverage is not None:
                scores = scores + self.coverage_slopes(queries)[:, :, None] * coverage
            return scores
        queries, keys, v, w_c = self.additive_parts(queries, keys)
        return additive_scores(queries, keys, v, coverage, w_c, sizes)

    def scorer(self, keys: Tensor, mask: Tensor) -> Callable[[Tensor, Tensor | None], Tensor]:
        """`scores` for many calls with the same projected keys (B, S, A) and one query each, (B, 1, A).

        Args:
            keys: of `project_keys`.
            mask: True at words, (B, S); scores elsewhere are arbitrary but finite.

        Returns:
            a function of queries (B, 1, A) and coverage (B, 1, S) or None, that gives (B, 1, S).
        """
        if self.score_mode in ("dot", "general") or keys.device.type != "cpu":
            return lambda queries, coverage: self.scores(queries, keys, coverage)
        scaled = keys if self.scale is None else keys * self.scale
        packed = PackedKeys(scaled, mask)

        def scores(queries: Tensor, coverage: Tensor | None) -> Tensor:
            if coverage is not None and self.w_c is None:
                raise ValueError("this attention was built without coverage")
            queries, _, v, w_c = self.additive_parts(queries, keys[:, :1])
            return packed.scores(queries, v, coverage, w_c)

        return scores

    def coverage_slopes(self, queries: Tensor) -> Tensor:
        """What coverage adds to the scores of `dot` and `general`, per unit: q . (k + w_c c) = q . k + (q . w_c) c."""
        assert self.w_c is not None
        slopes = queries @ self.w_c
        return slopes if self.scale is None else slopes * self.scale

    def additive_parts(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """The q, k, v and w_c of v . tanh(k_i + q_t + w_c c_i^t), for `concat` and `additive`."""
        w_c: Tensor | None = self.w_c
        if self.scale is not None:
            queries, keys = queries * self.scale, keys * self.scale
            w_c = None if w_c is None else w_c * self.scale
        if self.concat_score_weight is not None:
            return queries, keys, self.concat_score_weight.expand(keys.shape[2]), w_c
        assert self.v is not None
        return queries, keys, self.v, w_c

    def _drop(self, weights: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return weights
        if self.seed is None:
            return nn.functional.dropout(weights, self.dropout)
        if self.dropout == 1:
            return torch.zeros_like(weights)
        generator = torch.Generator(weights.device).manual_seed(self.seed + self._num_dropouts)
        self._num_dropouts += 1
        keep = 1 - self.dropout
        kept = torch.full_like(weights, keep, dtype=torch.float32).bernoulli(generator=generator)
        return torch.where(kept.bool(), weights / keep, 0.0)

    def _check(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor,
        query_mask: Tensor | None,
        value_mask: Tensor | None,
        coverage: Tensor | None,
    ) -> None:
        problems = []
        for name, tensor in (("query", query), ("value", value), ("key", key)):
            if tensor.dim() != 3:
                problems.append(
                    f"{name} has shape {tuple(tensor.shape)}, expected (batch, positions, features)"
                )
            elif not tensor.is_floating_point():
                problems.append(f"{name} is {tensor.dtype}, expected floating-point numbers")
        if len({query.dtype, value.dtype, key.dtype}) > 1 and not torch.is_autocast_enabled(
            query.device.type
        ):
            problems.append(f"types differ: {query.dtype}, {value.dtype} and {key.dtype}")
        if not problems:
            if not query.shape[0] == value.shape[0] == key.shape[0]:
                problems.append("query, value and key differ in their batch sizes")
            if value.shape[1] != key.shape[1]:
                problems.append(f"there are {value.shape[1]} values but {key.shape[1]} keys")
            query_size = self.w.in_features if self.w else self.w_s.in_features if self.w_s else None
            key_size = self.w.out_features if self.w else self.w_h.in_features if self.w_h else None
            if query_size is None and query.shape[2] != key.shape[2]:
                problems.append(f"query has {query.shape[2]} features but key has {key.shape[2]}")
            if query_size is not None and query.shape[2] != query_size:
                problems.append(f"query has {query.shape[2]} features, this layer was built for {query_size}")
            if key_size is not None and key.shape[2] != key_size:
                problems.append(f"key has {key.shape[2]} features, this layer was built for {key_size}")
        masks: list[tuple[str, Any, Tensor]] = [
            ("query_mask", query_mask, query), ("value_mask", value_mask, value)
        ]  # fmt: skip
        for name, mask, of in masks:
            if mask is None:
                continue
            if not isinstance(mask, Tensor):
                problems.append(f"{name} is a {type(mask).__name__}, expected a tensor of torch.bool")
                continue
            if mask.dtype != torch.bool:
                problems.append(f"{name} is {mask.dtype}, expected torch.bool, True at words")
            if mask.shape != of.shape[:2]:
                problems.append(f"{name} has shape {tuple(mask.shape)}, expected {tuple(of.shape[:2])}")
        expected = query.shape[:2] + key.shape[1:2]
        if coverage is not None and coverage.shape != expected:
            problems.append(f"coverage has shape {tuple(coverage.shape)}, expected {tuple(expected)}")
        if problems:
            shapes = f"query {tuple(query.shape)}, value {tuple(value.shape)}, key {tuple(key.shape)}"
            raise ValueError(f"Attention cannot be computed: {'; '.join(problems)} (found {shapes})")
