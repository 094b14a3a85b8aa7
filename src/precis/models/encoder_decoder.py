"""The encoder-decoder without attention: the whole source in one vector."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from precis.models.base import Losses, Memory, State, Step, SummarizationModel
from precis.models.consistency import disagreement, twice
from precis.models.decoder import stack_states, unstack_states
from precis.models.embeddings import WordEmbeddings
from precis.models.encoder import Encoder
from precis.models.losses import TargetRows, collect_losses, mixture_nll
from precis.models.output import OutputLayer, word_log_probs
from precis.models.rnn import RecurrentStack, SharedDropout
from precis.models.segments import Segments
from precis.models.source import Source, Target


class EncoderDecoder(SummarizationModel):
    """The encoder's last state, repeated as an input of every decoder step (the RepeatVector model).

    A decoder step reads the embedding of the word before and, beside it, the last hidden states of the
    encoder's top layer; the decoder starts from zeros.

    Args: see `build_model`.
    """

    def __init__(
        self,
        *,
        source_vocabulary_size: int,
        target_vocabulary_size: int,
        shared_vocabulary: bool,
        cell: str,
        layers: int,
        bidirectional: bool,
        embedding_size: int,
        hidden_size: int,
        decoder_size: int,
        tie_embeddings: bool,
        readout: str,
        dropout: float,
        word_dropout: float,
        label_smoothing: float,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {}
        self.vocabulary_size = target_vocabulary_size
        self.label_smoothing = label_smoothing
        self.embeddings = WordEmbeddings(
            source_vocabulary_size, target_vocabulary_size, embedding_size, shared_vocabulary, word_dropout
        )
        self.dropout = SharedDropout(dropout)
        self.encoder = Encoder(cell, embedding_size, hidden_size, layers, bidirectional, dropout)
        input_size = embedding_size + self.encoder.output_size
        self.decoder = RecurrentStack(cell, input_size, decoder_size, layers, dropout)
        readout_size = embedding_size if tie_embeddings else decoder_size
        self.output = OutputLayer(
            decoder_size, readout_size, target_vocabulary_size, readout, tie_embeddings, dropout
        )

    @override
    def training_loss(self, source: Source, target: Target, consistency_weight: float = 0.0) -> Losses:
        if consistency_weight:
            source, target = twice(source, target)
        segments = Segments.of(source.lengths, source.ids.shape[1])
        source_words, target_words = self.embeddings(source, segments, target)
        _, finals = self.encoder(self.dropout(source_words, segments), segments)
        summary = finals[-1][0]  # (B, C)
        repeated = summary.expand(target_words.shape[0], -1, -1)
        outputs = self.decoder(torch.cat([self.dropout(target_words), repeated], dim=2), None)
        rows = TargetRows(source, target, self.vocabulary_size, pointer=False)
        readout = self.output.read_out(rows.take(outputs.transpose(0, 1)))
        weight, bias = self.output.matrix(self.embeddings.target), self.output.bias
        smoothing = self.label_smoothing if self.training else 0.0
        loss, nll = generation_nll(readout, weight, bias, rows, smoothing)
        consistency = None
        if consistency_weight:
            consistency = disagreement(
                lambda some: word_log_probs(readout[some], weight, bias), rows.weights, self.vocabulary_size
            )
        return collect_losses(rows, loss, nll, None, 0.0, None, 0.0, consistency, consistency_weight)

    @override
    def encode(self, source: Source) -> Memory:
        segments = Segments.of(source.lengths, source.ids.shape[1])
        _, finals = self.encoder(self.embeddings.embed_source(segments.pick(source.ids)), segments)
        return {"summary": finals[-1][0]}

    @override
    def initial_state(self, memory: Memory, beams: int) -> State:
        layers, states = self.decoder.layers, self.decoder.num_states
        zeros = memory["summary"].new_zeros(
            memory["summary"].shape[0], beams, len(layers), self.decoder.hidden_size
        )
        return dict.fromkeys(("hidden", "cell")[:states], zeros)

    @override
    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> Step:
        batch_size, beams = previous_ids.shape
        words = self.embeddings.embed_target(previous_ids)
        repeated = memory["summary"][:, None].expand(-1, beams, -1)
        inputs = torch.cat([words, repeated], dim=2).flatten(0, 1)
        after = self.decoder.step(inputs, unstack_states(state))
        output = after[-1][0].view(batch_size, beams, -1)
        return Step(
            vocab_log_probs=self.output(output, self.embeddings.target),
            attention=None,
            p_gen_logit=None,
            state=stack_states(after, batch_size, beams),
        )


def generation_nll(
    readout: Tensor, weight: Tensor, bias: Tensor, rows: TargetRows, smoothing: float
) -> tuple[Tensor, Tensor]:
    """`mixture_nll` of a model that copies nothing: p_gen is 1."""
    log_gen = torch.zeros_like(rows.weights)
    targets = torch.where(rows.in_vocabulary, rows.targets, -1)
    log_copied = torch.full_like(log_gen, -math.inf)
    return mixture_nll(readout, weight, bias, targets, log_gen, log_copied, rows.weights, smoothing)
