"""The decoder of one batch: the same model, with an output layer that is cheap to ask again and again.

Each step of a search multiplies B*K rows by the whole matrix V: most of the time of decoding. Three things
make it cheaper. Buffers are kept from step to step, so that no page of memory is fetched anew. The matrix
may be restricted to a shortlist, the frequent words and those of the batch's documents; ids are then places in
the shortlist. And it may be screened in eight bits: those find the words worth a look and the sum that makes
probabilities of all, while the words that can matter, the best of each row and those of the document, are
computed in full.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from precis.decoding.columns import top_words
from precis.models.base import Memory, State, Step, SummarizationModel
from precis.models.output import OutputLayer
from precis.models.source import EOS_ID, PAD_ID, Source

EIGHT_BIT_CHUNK = 2048  # words that are multiplied at a time
RESCORED = 8  # words of each row that are computed in full after eight bits found them the best
NUM_SPECIAL = 4  # ids 0 to 3 stay what they are in every shortlist


@dataclass(frozen=True)
class Shortlist:
    """The words that a batch may write.

    Attributes:
        words: their target-vocabulary ids, rising, ids 0 to 3 first.
        vocabulary_size: V.
    """

    words: Tensor
    vocabulary_size: int

    @classmethod
    def of_batch(cls, extended_ids: Tensor, vocabulary_size: int, num_frequent: int) -> Shortlist:
        """The special tokens, the frequent words (vocabularies are ordered by frequency) and the source's."""
        is_listed = torch.zeros(vocabulary_size, dtype=torch.bool)
        is_listed[: NUM_SPECIAL + num_frequent] = True
        is_listed[extended_ids[extended_ids < vocabulary_size]] = True
        return cls(is_listed.nonzero().squeeze(1), vocabulary_size)

    def places(self, extended_ids: Tensor) -> Tensor:
        """Extended ids as places in the shortlist; source OOVs follow it; the rest becomes padding."""
        number = torch.zeros(self.vocabulary_size, dtype=torch.int64)
        number[self.words] = torch.arange(len(self.words))
        shift = len(self.words) - self.vocabulary_size
        in_vocabulary = extended_ids.clamp(max=self.vocabulary_size - 1)
        return torch.where(extended_ids < self.vocabulary_size, number[in_vocabulary], extended_ids + shift)

    def ids(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The way back, for what a search found."""
        size = len(self.words)
        words = self.words.numpy()[np.minimum(places, size - 1)]
        return np.where(places < size, words, places - size + self.vocabulary_size)


class BatchDecoder:
    """Steps of a model, for the search of one batch in one thread.

    Args:
        model: in evaluation mode.
        shortlist: None for the whole vocabulary.
        eight_bits: what `pack_output` made of the model's matrix, or None; the whole vocabulary only.

    Attributes:
        num_steps: steps taken so far, those of each hypothesis counted.
    """

    def __init__(
        self, model: SummarizationModel, shortlist: Shortlist | None, eight_bits: EightBits | None = None
    ) -> None:
        self.num_steps = 0
        self._shortlist = shortlist
        self._model = model
        self._output: _BufferedOutput | None = None
        owner = output_owner(model)
        if owner is not None:
            self._output = _BufferedOutput(owner.output, owner.embeddings.target, shortlist, eight_bits)
            self._model = _with_output(model, self._output)

    def encode(self, source: Source) -> Memory:
        """Read the documents."""
        memory = self._model.encode(source)
        if self._output is None or not self._output.screens:
            return memory
        # in the memory, so that it follows the documents when others leave the batch
        return {**memory, **self._output.rows_of_words(source.extended_ids)}

    def initial_state(self, memory: Memory, beams: int) -> State:
        """The state before the first word."""
        return self._model.initial_state(memory, beams)

    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> Step:
        """One step; the tensors of P_vocab are overwritten by the next."""
        self.num_steps += previous_ids.numel()
        if self._shortlist is not None:
            previous_ids = self._shortlist.words[previous_ids]
        if self._output is not None:
            self._output.memory = memory
        return self._model.step(memory, state, previous_ids)


@dataclass(frozen=True)
class EightBits:
    """The matrix V in eight bits, as oneDNN or FBGEMM wants it, some words at a time."""

    chunks: tuple[Any, ...]


def pack_output(model: SummarizationModel) -> EightBits | None:
    """Hold the output matrix in eight bits, each word's row with its own scale; None if there is no matrix."""
    owner = output_owner(model)
    if owner is None:
        return None
    output = owner.output
    matrix = output.matrix(owner.embeddings.target).detach()
    scales = matrix.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    bias = output.bias.detach()
    chunks = []
    with warnings.catch_warnings():
        # PyTorch will move these functions to torchao some day; the version is pinned until then
        warnings.simplefilter("ignore", UserWarning)
        for start in range(0, len(matrix), EIGHT_BIT_CHUNK):
            part = slice(start, start + EIGHT_BIT_CHUNK)
            zeros = torch.zeros(len(matrix[part]), dtype=torch.int64)
            rows = torch.quantize_per_channel(matrix[part], scales[part], zeros, 0, torch.qint8)
            chunks.append(torch.ops.quantized.linear_prepack(rows, bias[part]))
    return EightBits(tuple(chunks))


def output_owner(model: SummarizationModel) -> Any:
    """The part of a model that has `output` and `embeddings`: itself, or what a pointer is built around."""
    inner = getattr(model, "seq2seq", model)
    return inner if isinstance(getattr(inner, "output", None), OutputLayer) else None


class _BufferedOutput(nn.Module):
    """Log P_vocab like the model's output layer, with buffers of its own: for one thread."""

    def __init__(
        self,
        layer: OutputLayer,
        embedding: Tensor,
        shortlist: Shortlist | None,
        eight_bits: EightBits | None,
    ) -> None:
        super().__init__()
        self._layer = [layer]  # in a list: its parameters are not this module's
        matrix, bias = layer.matrix(embedding).detach(), layer.bias.detach()
        if shortlist is not None:
            matrix, bias = matrix[shortlist.words], bias[shortlist.words]
        self._matrix, self._bias = matrix, bias
        self._eight_bits = eight_bits
        self._buffers_of: dict[str, Tensor] = {}
        self.memory: Memory = {}

    @property
    def screens(self) -> bool:
        """Whether eight bits come first."""
        return self._eight_bits is not None

    def rows_of_words(self, extended_ids: Tensor) -> Memory:
        """The documents' words that are in the vocabulary, and the end, with their rows of the matrix."""
        ends = torch.full_like(extended_ids[:, :1], EOS_ID)
        words = torch.cat([ends, extended_ids.masked_fill(extended_ids >= len(self._bias), PAD_ID)], dim=1)
        words = words.sort(dim=1, descending=True).values
        # each word once: a sorted row, the repetitions made padding, sorted again and cut
        words[:, 1:].masked_fill_(words[:, 1:] == words[:, :-1], PAD_ID)
        words = words.sort(dim=1, descending=True).values
        words = words[:, : int((words != PAD_ID).sum(1).max())]
        rows = torch.nn.functional.embedding(words, self._matrix)
        return {"output_words": words, "output_rows": rows, "output_bias": self._bias[words]}

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Log P_vocab, (B, K, V or the shortlist's length); overwritten by the next call."""
        read = self._layer[0].read_out(features)
        num_rows, size = read.shape[0] * read.shape[1], len(self._bias)
        flat = read.reshape(num_rows, -1)
        if self._eight_bits is None:
            logits = self._buffer("logits", num_rows, size, flat)
            torch.addmm(self._bias, flat, self._matrix.t(), out=logits)
        else:
            logits = self._screened(read, flat)
        log_probs = self._buffer("log_probs", num_rows, size, flat)
        torch.ops.aten._log_softmax.out(logits, 1, False, out=log_probs)
        return log_probs.view(*read.shape[:2], size)

    def _screened(self, read: Tensor, flat: Tensor) -> Tensor:
        assert self._eight_bits is not None
        logits = self._buffer("logits", len(flat), len(self._bias), flat)
        start = 0
        for chunk in self._eight_bits.chunks:
            # it makes a tensor of its own: a small one, that stays in the cache until it is copied
            part = torch.ops.quantized.linear_dynamic(flat, chunk, True)
            logits[:, start : start + part.shape[1]] = part
            start += part.shape[1]
        _, best = top_words(logits, RESCORED)
        in_full = torch.bmm(self._matrix[best], flat.unsqueeze(2)).squeeze(2) + self._bias[best]
        logits.scatter_(1, best, in_full)
        of_source = torch.baddbmm(
            self.memory["output_bias"].unsqueeze(1), read, self.memory["output_rows"].transpose(1, 2)
        )
        words = self.memory["output_words"].unsqueeze(1).expand_as(of_source)
        logits.view(*read.shape[:2], -1).scatter_(2, words, of_source)
        return logits

    def _buffer(self, name: str, rows: int, size: int, like: Tensor) -> Tensor:
        buffer = self._buffers_of.get(name)
        if buffer is None:  # the first step has the most rows
            buffer = self._buffers_of[name] = like.new_empty(rows, size)
        return buffer[:rows]


def _with_output(model: SummarizationModel, output: nn.Module) -> SummarizationModel:
    """The same model, sharing all of its parts but the output layer."""
    clone = _shallow(model)
    inner = clone
    if hasattr(model, "seq2seq"):
        inner = _shallow(cast(SummarizationModel, model.seq2seq))
        clone._modules["seq2seq"] = inner
    inner._modules["output"] = output
    return clone


def _shallow(module: SummarizationModel) -> SummarizationModel:
    clone = copy.copy(module)
    clone._modules = dict(module._modules)
    return clone
