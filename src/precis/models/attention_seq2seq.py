"""The encoder-decoder with attention (Bahdanau et al., 2015; Luong et al., 2015)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from precis.errors import PrecisError
from precis.models.base import Losses, Memory, State, Step, SummarizationModel
from precis.models.consistency import disagreement, twice
from precis.models.decoder import AttentionDecoder, Decoded, first_memory
from precis.models.embeddings import WordEmbeddings
from precis.models.encoder import Bridge, Encoder
from precis.models.encoder_decoder import generation_nll
from precis.models.losses import TargetRows, collect_losses, copied_mass
from precis.models.output import OutputLayer, word_log_probs
from precis.models.rnn import CELLS, CellState, SharedDropout
from precis.models.segments import Segments
from precis.models.source import Source, Target


class AttentionSeq2Seq(SummarizationModel):
    """Bidirectional encoder, decoder with attention over the encoder states.

    Args: see `build_model`; `generates_words` is False inside of a model that only copies: there is no output
    layer then.
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
        attention: str,
        input_feeding: bool,
        attend_with_cell: bool,
        intra_attention: bool,
        coverage: bool,
        coverage_weight: float,
        pointing_weight: float,
        coverage_on: bool | None = None,
        generates_words: bool = True,
    ) -> None:
        super().__init__()
        encoder_size = hidden_size * (2 if bidirectional else 1)
        if attend_with_cell and cell != "lstm":
            raise PrecisError(f"attend_with_cell needs the cell state of an LSTM, but cell is {cell!r}")
        if attention in ("dot", "concat") and decoder_size * (2 if attend_with_cell else 1) != encoder_size:
            raise PrecisError(
                f"attention {attention!r} needs queries as wide as the encoder states, {encoder_size}; "
                f"found {decoder_size * (2 if attend_with_cell else 1)}: change decoder_size, "
                "or take attention general or additive"
            )
        if coverage_on and not coverage:
            raise PrecisError("coverage_on needs coverage: true")
        self.options: dict[str, Any] = {}
        self.vocabulary_size = target_vocabulary_size
        self.label_smoothing = label_smoothing
        self.has_coverage = coverage
        self.coverage_on = coverage if coverage_on is None else coverage_on
        self.coverage_weight = coverage_weight
        self.pointing_weight = pointing_weight
        self.embeddings = WordEmbeddings(
            source_vocabulary_size, target_vocabulary_size, embedding_size, shared_vocabulary, word_dropout
        )
        self.dropout = SharedDropout(dropout)
        self.encoder = Encoder(cell, embedding_size, hidden_size, layers, bidirectional, dropout)
        self.bridge = Bridge(encoder_size, decoder_size, layers, CELLS[cell].num_states)
        self.decoder = AttentionDecoder(
            cell=cell, embedding_size=embedding_size, hidden_size=decoder_size, num_layers=layers,
            encoder_size=encoder_size, attention=attention, coverage=coverage, input_feeding=input_feeding,
            attend_with_cell=attend_with_cell, intra_attention=intra_attention, dropout=dropout,
        )  # fmt: skip
        readout_size = embedding_size if tie_embeddings else decoder_size
        self.output: OutputLayer | None = None
        if generates_words:
            self.output = OutputLayer(
                self.decoder.features_size,
                readout_size,
                target_vocabulary_size,
                readout,
                tie_embeddings,
                dropout,
            )

    @override
    def training_loss(self, source: Source, target: Target, consistency_weight: float = 0.0) -> Losses:
        if consistency_weight:
            source, target = twice(source, target)
        decoded = self.decode_target(source, target)
        rows = TargetRows(
            source, target, self.vocabulary_size, pointer=False, points=self.pointing_weight > 0
        )
        log_mass = None
        if rows.matches is not None:
            log_mass = copied_mass(rows.take(decoded.log_attention), rows.matches)
        readout, weight, bias = self.readout(rows.take(decoded.features))
        loss, nll = generation_nll(readout, weight, bias, rows, self.smoothing)
        coverage_terms = None if decoded.coverage_loss is None else decoded.coverage_loss.flatten()[rows.rows]
        consistency = None
        if consistency_weight:
            consistency = disagreement(
                lambda some: word_log_probs(readout[some], weight, bias), rows.weights, self.vocabulary_size
            )
        return collect_losses(
            rows, loss, nll, log_mass, self.pointing_weight, coverage_terms, self.coverage_weight,
            consistency, consistency_weight,
        )  # fmt: skip

    @override
    def encode(self, source: Source) -> Memory:
        segments = Segments.of(source.lengths, source.ids.shape[1])
        words = self.embeddings.embed_source(segments.pick(source.ids))
        memory, states = self._read(words, segments, source.mask)
        return {**memory, **first_memory(states)}

    @override
    def initial_state(self, memory: Memory, beams: int) -> State:
        return self.decoder.initial_state(memory, beams, self.coverage_on)

    @override
    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> Step:
        decoded, new_state = self.advance(memory, state, previous_ids)
        return Step(
            vocab_log_probs=self.vocab_log_probs(decoded),
            attention=decoded.log_attention.exp(),
            p_gen_logit=None,
            state=new_state,
        )

    @override
    def switch_coverage(self, on: bool) -> None:
        if on and not self.has_coverage:
            super().switch_coverage(on)
        self.coverage_on = on
        self.options["coverage_on"] = on

    @override
    def coverage_parameters(self) -> list[nn.Parameter]:
        w_c = self.decoder.attention.w_c
        return [] if w_c is None else [w_c]

    @property
    def smoothing(self) -> float:
        """Label smoothing, in training mode only."""
        return self.label_smoothing if self.training else 0.0

    def decode_target(self, source: Source, target: Target) -> Decoded:
        """Run encoder and decoder with teacher forcing."""
        segments = Segments.of(source.lengths, source.ids.shape[1])
        source_words, target_words = self.embeddings(source, segments, target)
        memory, states = self._read(self.dropout(source_words, segments), segments, source.mask)
        sizes = None
        if source.lengths.device.type == "cpu":  # to look at them elsewhere would wait for the device
            sizes = list(zip(target.mask.sum(dim=1).tolist(), source.lengths.tolist(), strict=True))
        decoded: Decoded = self.decoder(self.dropout(target_words), states, memory, self.coverage_on, sizes)
        return decoded

    def advance(self, memory: Memory, state: State, previous_ids: Tensor) -> tuple[Decoded, State]:
        """One decoder step, up to the output layer."""
        return self.decoder.step(self.embeddings.embed_target(previous_ids), state, memory)

    def readout(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the output layer multiplies: readout (N, R), matrix (V, R) and bias (V,)."""
        assert self.output is not None
        matrix = self.output.matrix(self.embeddings.target)
        return self.output.read_out(features), matrix, self.output.bias

    def vocab_log_probs(self, decoded: Decoded) -> Tensor:
        """Log P_vocab, (B, K, V)."""
        assert self.output is not None
        log_probs: Tensor = self.output(decoded.features, self.embeddings.target)
        return log_probs

    def _read(self, words: Tensor, segments: Segments, mask: Tensor) -> tuple[Memory, list[CellState]]:
        outputs, finals = self.encoder(words, segments)
        states = segments.pad(outputs)  # (B, S, C)
        keys = self.decoder.attention.project_keys(outputs)
        keys = states if keys is outputs else segments.pad(keys)
        return {"encoder_states": states, "keys": keys, "mask": mask}, self.bridge(finals)
