"""A decoder without a model: tables of random distributions, chosen by the last words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from precis.decoding.step import SpecialIds

SPECIAL = SpecialIds(pad=0, unk=1, bos=2, eos=3)
CONTEXTS = 97  # a prime above the number of words: two orders of the same words are no tie


@dataclass(frozen=True)
class TableStep:
    vocab_log_probs: Tensor
    attention: Tensor | None
    p_gen_logit: Tensor | None
    state: dict[str, Tensor]


@dataclass(frozen=True)
class TableDecoder:
    """The next word depends on a hash of the history; everything in float64.

    Attributes:
        vocab: log P_vocab by context, (C, V).
        attention: by context, (C, S), or None.
        p_gen_logit: by context, (C, 1), or None.
    """

    vocab: Tensor
    attention: Tensor | None
    p_gen_logit: Tensor | None

    @classmethod
    def random(
        cls,
        seed: int,
        vocabulary_size: int,
        source_length: int,
        *,
        copies: bool,
        spread: float = 1.5,
        contexts: int = CONTEXTS,
    ):
        assert vocabulary_size + source_length < contexts
        generator = torch.Generator().manual_seed(seed)

        def normal(size: int) -> Tensor:
            return spread * torch.randn(contexts, size, generator=generator, dtype=torch.float64)

        return cls(
            vocab=normal(vocabulary_size).log_softmax(1),
            attention=normal(source_length).softmax(1),
            p_gen_logit=normal(1) if copies else None,
        )

    def memory(self, mask: Tensor) -> dict[str, Tensor]:
        return {"mask": mask, "shift": torch.arange(len(mask))}

    def initial_state(self, memory: dict[str, Tensor], beams: int) -> dict[str, Tensor]:
        return {"context": memory["shift"].unsqueeze(1).repeat(1, beams)}

    def step(self, memory: dict[str, Tensor], state: dict[str, Tensor], previous_ids: Tensor) -> TableStep:
        context = (5 * state["context"] + previous_ids) % len(self.vocab)
        attention = None
        if self.attention is not None:
            mask = memory["mask"].unsqueeze(1)
            attention = self.attention[context][..., : mask.shape[2]] * mask
            attention = attention / attention.sum(2, keepdim=True)
        return TableStep(
            vocab_log_probs=self.vocab[context],
            attention=attention,
            p_gen_logit=None if self.p_gen_logit is None else self.p_gen_logit[context],
            state={"context": context},
        )


@dataclass(frozen=True)
class Scored:
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    coverage: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        return math.fsum(self.log_probs)


def all_hypotheses(
    decoder: TableDecoder, document: int, source: list[int], min_length: int, max_length: int
) -> Iterator[Scored]:
    """Every summary of at most `max_length` words with its log-probabilities, one word at a time."""
    vocabulary_size = decoder.vocab.shape[1]

    def walk(
        context: int, previous: int, ids: tuple[int, ...], logs: tuple[float, ...], coverage: list[float]
    ):
        context = (5 * context + previous) % len(decoder.vocab)
        attention = [0.0] * len(source)
        if decoder.attention is not None:
            raw = decoder.attention[context][: len(source)]
            attention = (raw / raw.sum()).tolist()
        coverage = [before + now for before, now in zip(coverage, attention, strict=True)]
        probabilities = dict(enumerate(decoder.vocab[context].exp().tolist()))
        if decoder.p_gen_logit is not None:
            p_gen = decoder.p_gen_logit[context].sigmoid().item()
            probabilities = {word: p_gen * p for word, p in probabilities.items()}
            for word, weight in zip(source, attention, strict=True):
                probabilities[word] = probabilities.get(word, 0.0) + (1 - p_gen) * weight
        if len(ids) >= min_length:
            yield Scored(ids, (*logs, math.log(probabilities[SPECIAL.eos])), tuple(coverage))
        if len(ids) == max_length:
            return
        for word, probability in probabilities.items():
            if word not in (*SPECIAL.never_written, SPECIAL.eos) and probability > 0:
                previous_id = word if word < vocabulary_size else SPECIAL.unk
                yield from walk(context, previous_id, (*ids, word), (*logs, math.log(probability)), coverage)

    yield from walk(document, SPECIAL.bos, (), (), [0.0] * len(source))
