"""The pointer-generator: generate a word of the vocabulary or copy one of the source (See et al., 2017)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from precis.models.attention_seq2seq import AttentionSeq2Seq
from precis.models.base import Losses, Memory, State, Step, SummarizationModel
from precis.models.consistency import disagreement, twice
from precis.models.decoder import Decoded
from precis.models.losses import TargetRows, collect_losses, copied_mass, end_or_copy_nll, mixture_nll
from precis.models.output import word_log_probs
from precis.models.source import EOS_ID, Source, Target


class PointerGenerator(SummarizationModel):
    """Attention that doubles as a pointer, and a gate p_gen between the vocabulary and the source.

    With `generation: pointer_only` every word is a position of the source (Vinyals et al., 2015) and the only
    thing that is generated is the end, so that p_gen is the probability of ending.

    Args: see `build_model`.
    """

    def __init__(self, *, generation: str, **options: Any) -> None:
        super().__init__()
        self.options: dict[str, Any] = {}
        self.generates_words = generation == "mixture"
        self.seq2seq = AttentionSeq2Seq(**options, generates_words=self.generates_words)
        decoder = self.seq2seq.decoder
        gate_size = decoder.encoder_size + decoder.query_size + options["embedding_size"]
        self.gate = nn.Linear(gate_size, 1)

    @override
    def training_loss(self, source: Source, target: Target, consistency_weight: float = 0.0) -> Losses:
        if consistency_weight:
            source, target = twice(source, target)
        decoded = self.seq2seq.decode_target(source, target)
        rows = TargetRows(
            source, target, self.seq2seq.vocabulary_size, pointer=True, generates_words=self.generates_words
        )
        assert rows.matches is not None
        gate = self._gate(rows.take(decoded.context), rows.take(decoded.query), rows.take(decoded.inputs))
        p_gen_logit = gate.squeeze(1).float()
        log_attention = rows.take(decoded.log_attention)
        log_mass = copied_mass(log_attention, rows.matches)
        log_gen, log_copy = nn.functional.logsigmoid(p_gen_logit), nn.functional.logsigmoid(-p_gen_logit)
        log_copied = log_copy + log_mass
        if self.generates_words:
            readout, weight, bias = self.seq2seq.readout(rows.take(decoded.features))
            targets = torch.where(rows.in_vocabulary, rows.targets, -1)
            loss, nll = mixture_nll(
                readout, weight, bias, targets, log_gen, log_copied, rows.weights, self.seq2seq.smoothing
            )

            def generated(some: slice) -> Tensor:
                return word_log_probs(readout[some], weight, bias)

        else:
            loss, nll = end_or_copy_nll(rows, log_gen, log_copied)

            def generated(some: slice) -> Tensor:
                return torch.zeros_like(log_gen[some, None])

        consistency = None
        if consistency_weight:
            consistency = disagreement(
                lambda some: torch.cat(
                    [
                        log_gen[some, None] + generated(some),
                        log_copy[some, None] + log_attention[some],
                    ],
                    dim=1,
                ),
                rows.weights,
                self.seq2seq.vocabulary_size + log_attention.shape[1],
            )
        coverage_terms = None if decoded.coverage_loss is None else decoded.coverage_loss.flatten()[rows.rows]
        return collect_losses(
            rows,
            loss,
            nll,
            log_mass,
            self.seq2seq.pointing_weight,
            coverage_terms,
            self.seq2seq.coverage_weight,
            consistency,
            consistency_weight,
        )

    @override
    def encode(self, source: Source) -> Memory:
        return self.seq2seq.encode(source)

    @override
    def initial_state(self, memory: Memory, beams: int) -> State:
        return self.seq2seq.initial_state(memory, beams)

    @override
    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> Step:
        decoded, new_state = self.seq2seq.advance(memory, state, previous_ids)
        return Step(
            vocab_log_probs=self._vocab_log_probs(decoded),
            attention=decoded.log_attention.exp(),
            p_gen_logit=self._gate(decoded.context, decoded.query, decoded.inputs),
            state=new_state,
        )

    @override
    def switch_coverage(self, on: bool) -> None:
        self.seq2seq.switch_coverage(on)
        self.options["coverage_on"] = on

    @override
    def coverage_parameters(self) -> list[nn.Parameter]:
        return self.seq2seq.coverage_parameters()

    def _gate(self, context: Tensor, query: Tensor, inputs: Tensor) -> Tensor:
        """Logit of p_gen = sigmoid(w_h* h*_t + w_s s_t + w_x x_t + b_ptr) (eq. 8), (..., 1)."""
        logit: Tensor = self.gate(torch.cat([context, query, inputs], dim=-1))
        return logit

    def _vocab_log_probs(self, decoded: Decoded) -> Tensor:
        if self.generates_words:
            return self.seq2seq.vocab_log_probs(decoded)
        batch_size, beams = decoded.features.shape[:2]
        log_probs = decoded.log_attention.new_full(
            (batch_size, beams, self.seq2seq.vocabulary_size), -math.inf
        )
        log_probs[:, :, EOS_ID] = 0.0
        return log_probs
