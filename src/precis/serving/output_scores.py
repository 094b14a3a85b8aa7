"""Log P_vocab of a step, a part of the vocabulary after the other.

Each step of a search multiplies B*K rows by the whole matrix V, and what comes out is larger than any cache: to
walk through it again for its maximum, for the sum that makes probabilities of scores and for the best words costs as
much as the product. So the product is made a chunk of words at a time, and a chunk is looked at while it is
still in the cache: its scores are kept, and with them the largest of each of many small blocks of words, and the
sum so far (as in Milakov and Gimelshein, 2018). The best words are then found in the few blocks of the largest maxima.

Two things make it cheaper still. The matrix may have the rows of some words only, the shortlist; to them come, for
each document, the words that it has besides, so that a summary never depends on the other documents of a batch. And
it may be screened in eight bits or in bfloat16: those find the words worth a look and nearly the sum, and the best
words of each row are computed in full.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

CHUNK = 1024  # words; the scores of a few hundred rows stay in the cache
STRIDE = 64  # a block is every 64th word of a chunk: maxima are then taken of whole vector registers
RESCORED = 8  # words of each row that are computed in full after screening found them the best


@dataclass(frozen=True)
class OutputMatrix:
    """The matrix V and its bias, as a search uses them.

    Attributes:
        matrix: of all words, (V, R).
        bias: (V,).
        listed: the words of the shortlist, rising, (L,); None: all words.
        places: the place of each word in the shortlist, -1 for words that are not in it, (V,); None: all words.
        listed_matrix, listed_bias: of the words of the shortlist.
        eight_bits: the same in eight bits, a chunk of words at a time, as oneDNN or FBGEMM wants it; None: not used.
        half: its matrix and bias in bfloat16; None: not used.
    """

    matrix: Tensor
    bias: Tensor
    listed: Tensor | None
    places: Tensor | None
    listed_matrix: Tensor
    listed_bias: Tensor
    eight_bits: tuple[Any, ...] | None
    half: tuple[Tensor, Tensor] | None

    @classmethod
    def of(
        cls,
        matrix: Tensor,
        bias: Tensor,
        listed: Tensor | None,
        *,
        int8: bool = False,
        bfloat16: bool = False,
    ) -> OutputMatrix:
        """Prepare an output layer.

        Args:
            matrix: (V, R).
            bias: (V,).
            listed: the words of the shortlist, rising; None: all words.
            int8: whether to screen in eight bits.
            bfloat16: whether to screen in bfloat16; eight bits come first.
        """
        places = None
        listed_matrix, listed_bias = matrix, bias
        if listed is not None:
            places = torch.full_like(bias, -1, dtype=torch.int64)
            places[listed] = torch.arange(len(listed), device=bias.device)
            listed_matrix, listed_bias = matrix[listed], bias[listed]
        eight_bits = _pack(listed_matrix, listed_bias) if int8 else None
        half = (listed_matrix.bfloat16(), listed_bias.bfloat16()) if bfloat16 and not int8 else None
        return cls(matrix, bias, listed, places, listed_matrix, listed_bias, eight_bits, half)

    @property
    def is_screened(self) -> bool:
        """Whether scores are approximate until the best are computed in full."""
        return self.eight_bits is not None or self.half is not None

    def words_besides(self, extended_ids: Tensor) -> dict[str, Tensor]:
        """The documents' words that have a row of the matrix and are not in the shortlist, with their rows.

        Args:
            extended_ids: (B, S).

        Returns:
            besides_words: rising, V where a document has fewer, (B, X); besides_rows (B, X, R); besides_bias, -inf
            where it has fewer, (B, X).
        """
        assert self.places is not None
        size = len(self.bias)
        is_word = extended_ids < size
        in_vocabulary = extended_ids.masked_fill(~is_word, 0)
        words = extended_ids.masked_fill(~is_word | (self.places[in_vocabulary] >= 0), size)
        words = words.sort(dim=1).values
        # each word once: a sorted row, the repetitions made padding, sorted again and cut
        words[:, 1:].masked_fill_(words[:, 1:] == words[:, :-1], size)
        words = words.sort(dim=1).values
        words = words[:, : int((words < size).sum(1).max())].contiguous()
        known = words.clamp(max=size - 1)
        bias = self.bias[known].masked_fill(words == size, -torch.inf)
        rows = torch.nn.functional.embedding(known, self.matrix)
        return {"besides_words": words, "besides_rows": rows, "besides_bias": bias}


def _pack(matrix: Tensor, bias: Tensor) -> tuple[Any, ...]:
    """A matrix (L, R) in eight bits, each word's row with its own scale."""
    scales = matrix.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / 127
    chunks = []
    engines = torch.backends.quantized
    before = engines.engine
    with warnings.catch_warnings():
        # PyTorch will move these functions to torchao some day; the version is pinned until then
        warnings.simplefilter("ignore", UserWarning)
        if "onednn" in engines.supported_engines:  # at least as fast as FBGEMM, several times with AMX
            engines.engine = "onednn"
        try:
            for start in range(0, len(matrix), CHUNK):
                part = slice(start, start + CHUNK)
                zeros = torch.zeros(len(matrix[part]), dtype=torch.int64)
                rows = torch.quantize_per_channel(matrix[part], scales[part], zeros, 0, torch.qint8)
                chunks.append(torch.ops.quantized.linear_prepack(rows, bias[part]))
        finally:
            engines.engine = before
    return tuple(chunks)


@dataclass(frozen=True)
class _Places:
    """Where the scores of some words of each document are, all (B, U).

    Attributes:
        ids: the words.
        listed: their places in the shortlist; any place for those that are not in it.
        is_listed: whether they are in it; None: all are.
        besides: their places among the words besides it; any place for others; None: no document has such words.
        is_besides: whether they are among those.
    """

    ids: Tensor
    listed: Tensor
    is_listed: Tensor | None = None
    besides: Tensor | None = None
    is_besides: Tensor | None = None

    @classmethod
    def of(cls, output: OutputMatrix, ids: Tensor, besides_words: Tensor | None) -> _Places:
        if output.places is None:
            return cls(ids, ids)
        listed = output.places[ids]
        found = cls(ids, listed.clamp(min=0), listed >= 0)
        if besides_words is None or not besides_words.shape[1]:
            return found
        column = torch.searchsorted(besides_words, ids.contiguous()).clamp(max=besides_words.shape[1] - 1)
        return replace(found, besides=column, is_besides=besides_words.gather(1, column) == ids)


class OutputScorer:
    """The output layer of a search, with buffers that every step uses again: for one thread."""

    def __init__(self, output: OutputMatrix) -> None:
        self.output = output
        self.padded_size = -(-len(output.listed_bias) // STRIDE) * STRIDE
        self._buffers: dict[str, Tensor] = {}
        self._places: _Places | None = None

    def places(self, ids: Tensor, besides_words: Tensor | None) -> _Places:
        """Where the scores of words (B, U) are; a search asks for the same ones at every step until documents leave."""
        if self._places is None or self._places.ids is not ids:
            self._places = _Places.of(self.output, ids, besides_words)
        return self._places

    def score(self, read: Tensor, memory: dict[str, Tensor]) -> OutputScores:
        """Log P_vocab for a readout (B, K, R); overwritten by the next call.

        Args:
            read: what the matrix is multiplied with.
            memory: with `OutputMatrix.words_besides`, if there is a shortlist.
        """
        flat = read.flatten(0, 1)
        logits = self._buffer("logits", flat, self.padded_size)
        maxima = self._buffer("maxima", flat, -(-self.padded_size // CHUNK) * STRIDE)
        largest = flat.new_full((len(flat), 1), -torch.inf)
        total = flat.new_zeros(len(flat), 1)
        besides = None
        if self.output.places is not None and memory["besides_words"].shape[1]:
            rows = memory["besides_rows"].transpose(1, 2)
            besides = torch.baddbmm(memory["besides_bias"].unsqueeze(1), read, rows).flatten(0, 1)
            largest = besides.amax(1, keepdim=True).clamp(min=torch.finfo(flat.dtype).min)
            total = (besides - largest).exp().sum(1, keepdim=True)
        for number, start in enumerate(range(0, self.padded_size, CHUNK)):
            chunk = self._multiply(flat, number, start)
            logits[:, start : start + CHUNK] = chunk
            tops = chunk.view(len(flat), -1, STRIDE).amax(1)
            maxima[:, number * STRIDE : (number + 1) * STRIDE] = tops
            raised = torch.maximum(largest, tops.amax(1, keepdim=True))
            exponentials = chunk.sub_(raised).exp_()
            total = total * (largest - raised).exp() + exponentials.sum(1, keepdim=True)
            largest = raised
        return OutputScores(self, read, memory.get("besides_words"), besides, logits, maxima, largest, total)

    def _multiply(self, flat: Tensor, number: int, start: int) -> Tensor:
        """The logits of a chunk, -inf where it is padded, (N, words); overwritten by the next call.

        They lie close together: to walk through a part of every row of the whole costs a tenth of a step.
        """
        output = self.output
        end = min(start + CHUNK, len(output.listed_bias))
        num_padded = min(start + CHUNK, self.padded_size) - end
        if output.eight_bits is not None:
            chunk: Tensor = torch.ops.quantized.linear_dynamic(flat, output.eight_bits[number], True)
            return torch.nn.functional.pad(chunk, (0, num_padded), value=-torch.inf) if num_padded else chunk
        buffer = self._buffer(f"chunk of {end - start}", flat, end - start + num_padded)
        into = buffer[:, : end - start]
        if output.half is not None:
            matrix, bias = output.half
            into.copy_(torch.addmm(bias[start:end], flat.bfloat16(), matrix[start:end].t()))
        else:
            torch.addmm(output.listed_bias[start:end], flat, output.listed_matrix[start:end].t(), out=into)
        buffer[:, end - start :] = -torch.inf
        return buffer

    def _buffer(self, name: str, flat: Tensor, width: int) -> Tensor:
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < len(flat):
            buffer = self._buffers[name] = flat.new_empty(len(flat), width)
        return buffer[: len(flat)]


class OutputScores:
    """What `OutputScorer` found in one step: a `WordScores`, until the next.

    Args:
        scorer: whose words these are.
        read: what was scored, (B, K, R).
        besides_words: words of the documents that are not in the shortlist, rising, (B, X), or None.
        besides: their logits, (B*K, X); None if there are none.
        logits: of the shortlist, (B*K, L padded with -inf).
        maxima: of the blocks, (B*K, blocks), STRIDE of them for each chunk.
        largest: of the logits, (B*K, 1).
        total: of exp(logits - largest), (B*K, 1).
    """

    def __init__(
        self,
        scorer: OutputScorer,
        read: Tensor,
        besides_words: Tensor | None,
        besides: Tensor | None,
        logits: Tensor,
        maxima: Tensor,
        largest: Tensor,
        total: Tensor,
    ) -> None:
        output = scorer.output
        self._scorer, self._output, self._shape = scorer, output, read.shape[:2]
        self._besides_words, self._besides = besides_words, besides
        self._logits, self._maxima = logits, maxima
        self._in_full: tuple[Tensor, Tensor] | None = None  # the best words, once they are computed in full
        if output.is_screened:
            total = total + self._compute_best_in_full(read.flatten(0, 1), largest)
            # what was taken away may leave less than nothing, in the last digits
            total = total.clamp(min=torch.finfo(total.dtype).tiny)
        self._log_norm = largest + total.log()

    @property
    def vocabulary_size(self) -> int:
        """V."""
        return len(self._output.bias)

    def of(self, ids: Tensor) -> Tensor:
        """Log P_vocab of some words of each document; -inf for those that neither the shortlist nor it has."""
        places = self._scorer.places(ids, self._besides_words)
        found = self._logits.view(*self._shape, -1).gather(2, self._of_beams(places.listed))
        if places.is_listed is not None:
            found.masked_fill_(~places.is_listed.unsqueeze(1), -torch.inf)
        if self._besides is not None and places.besides is not None and places.is_besides is not None:
            besides = self._besides.view(*self._shape, -1).gather(2, self._of_beams(places.besides))
            found = torch.where(places.is_besides.unsqueeze(1), besides, found)
        return found - self._log_norm.view(*self._shape, 1)

    def best(self, count: int) -> tuple[Tensor, Tensor]:
        """The most probable words of the shortlist, best first."""
        if self._in_full is not None and count <= RESCORED:
            rescored, words = self._in_full
            logits, order = rescored.topk(min(count, rescored.shape[1]), dim=1)
            places = words.gather(1, order)
        else:
            logits, places = self._top_places(count)
        ids = places if self._output.listed is None else self._output.listed[places]
        shape = (*self._shape, -1)
        return (logits - self._log_norm).view(shape), ids.view(shape)

    def everything(self) -> Tensor:
        """Log P_vocab, (B, K, V); -inf for words that neither the shortlist nor the document has."""
        size = len(self._output.listed_bias)
        log_probs = (self._logits[:, :size] - self._log_norm).view(*self._shape, size)
        if self._output.listed is None:
            return log_probs
        # one place more: for padding
        full = log_probs.new_full((*self._shape, self.vocabulary_size + 1), -torch.inf)
        full[:, :, self._output.listed] = log_probs
        if self._besides is not None and self._besides_words is not None:
            besides = (self._besides - self._log_norm).view(*self._shape, -1)
            full.scatter_(2, self._of_beams(self._besides_words), besides)
        return full[:, :, : self.vocabulary_size]

    def _of_beams(self, of_documents: Tensor) -> Tensor:
        return of_documents.unsqueeze(1).expand(-1, self._shape[1], -1)

    def _compute_best_in_full(self, flat: Tensor, largest: Tensor) -> Tensor:
        """Replace the scores that screening gave to the best words; what it adds to the total."""
        approximate, best = self._top_places(RESCORED)
        rows = torch.nn.functional.embedding(best, self._output.listed_matrix)
        in_full = (
            torch.bmm(flat.unsqueeze(1), rows.transpose(1, 2)).squeeze(1) + self._output.listed_bias[best]
        )
        self._logits.scatter_(1, best, in_full)
        self._in_full = in_full, best
        return ((in_full - largest).exp() - (approximate - largest).exp()).sum(1, keepdim=True)

    def _top_places(self, count: int) -> tuple[Tensor, Tensor]:
        """The places of the largest logits: they are in the `count` blocks of the largest maxima."""
        count = min(count, len(self._output.listed_bias))
        if self._maxima.shape[1] <= count:
            return self._logits.topk(count, dim=1)
        blocks = self._maxima.topk(count, dim=1, sorted=False).indices
        firsts = blocks // STRIDE * CHUNK + blocks % STRIDE
        offsets = torch.arange(0, CHUNK, STRIDE, device=blocks.device)
        members = (firsts.unsqueeze(2) + offsets).flatten(1)
        # a block of the last chunk may have fewer words than the others
        outside = members >= self._logits.shape[1]
        logits = self._logits.gather(1, members.masked_fill(outside, 0)).masked_fill_(outside, -torch.inf)
        logits, order = logits.topk(count, dim=1)
        return logits, members.gather(1, order)
