"""Summaries drawn at random: temperature, the k most probable words, the most probable ones of mass p."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from precis.decoding.columns import Columns, next_words, source_columns
from precis.decoding.hypotheses import Endings, TraceStep, read_hypotheses
from precis.decoding.hypothesis import Hypothesis
from precis.decoding.repetition import NgramBlock
from precis.decoding.step import Decoder, Memory, SpecialIds
from precis.decoding.word_scores import word_scores
from precis.errors import PrecisError

NO_BLOCK = NgramBlock()


@dataclass(frozen=True)
class SamplingSettings:
    """How to draw.

    Attributes:
        samples: summaries per document.
        max_length: the most words; a longer one ends there.
        min_length: the fewest words.
        temperature: below 1 favours probable words, above 1 evens out.
        top_k: draw among so many words; 0: among all.
        top_p: draw among the most probable words that have this share of the probability together.
        seed: the same seed draws the same summaries, whatever batch a document is in.
    """

    samples: int
    max_length: int
    seed: int
    min_length: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise PrecisError(
                f"temperature {self.temperature} must be above 0; for the best words use a beam"
            )
        if not 0 < self.top_p <= 1:
            raise PrecisError(f"top_p {self.top_p} must be above 0 and at most 1")
        if not 0 <= self.min_length <= self.max_length:
            raise PrecisError(f"min_length {self.min_length} must be from 0 to max_length, {self.max_length}")


@torch.inference_mode()
def sample(
    decoder: Decoder,
    memory: Memory,
    extended_ids: Tensor,
    settings: SamplingSettings,
    special: SpecialIds,
    document_numbers: list[int],
    banned_ids: Tensor | None = None,
    ngram_block: NgramBlock = NO_BLOCK,
) -> list[list[Hypothesis]]:
    """Draw summaries of each document; scores are log-probabilities under the model, not under the changed one.

    Args:
        decoder: gives the state and the steps.
        memory: what the encoder made of the documents, first dimension B.
        extended_ids: extended ids of the sources, (B, S), `special.pad` after their ends.
        settings: how to draw.
        special: the ids that are no words.
        document_numbers: of each document in the corpus: with the seed they decide what is drawn.
        banned_ids: extended ids that a document's summary must not contain, (B, X), padded; None for none.
        ngram_block: n-grams that must not come twice.
    """
    num_documents, samples = len(extended_ids), settings.samples
    generators = [torch.Generator().manual_seed(settings.seed * 1_000_003 + n) for n in document_numbers]
    state = decoder.initial_state(memory, samples)
    previous = torch.full((num_documents, samples), special.bos)
    log_probs = torch.zeros(num_documents, samples, dtype=torch.float64)
    steps = torch.full((num_documents, samples), -1)
    own = torch.arange(samples).expand(num_documents, -1)
    history = previous.unsqueeze(2)[:, :, :0]
    trace: list[TraceStep] = []
    columns = None
    for num_words in range(settings.max_length + 1):
        step = decoder.step(memory, state, previous)
        state = step.state
        vocabulary = word_scores(step.vocab_log_probs)
        size = vocabulary.vocabulary_size
        if columns is None:
            columns = source_columns(
                extended_ids,
                vocabulary_size=size,
                pad=special.pad,
                eos=special.eos,
                copies=step.p_gen_logit is not None,
            )
        words = next_words(vocabulary, step.attention, step.p_gen_logit, columns)
        elsewhere = torch.zeros(num_documents, size, dtype=torch.bool)  # never, or in a column
        elsewhere[:, special.never_written] = True
        elsewhere.scatter_(1, columns.vocab_ids, True)
        rest = (vocabulary.everything() + words.offset).masked_fill(elsewhere.unsqueeze(1), -torch.inf)
        ids = torch.cat(
            [
                torch.arange(size).expand(num_documents, -1),
                columns.ids.masked_fill(columns.ids == special.pad, 0),
            ],
            1,
        )
        never = torch.isin(columns.ids, torch.tensor(special.never_written))
        total = words.total.masked_fill(never.unsqueeze(1), -torch.inf)
        all_log_probs = torch.cat([rest, total], dim=2)
        at_end = (size + columns.end)[:, None, None].expand(-1, samples, 1)
        end = torch.cat(
            [part.gather(2, at_end - size) for part in (words.total, words.generated, words.copied)], dim=2
        )
        choosable = all_log_probs.clone()
        if banned_ids is not None:
            _forbid(choosable, banned_ids.unsqueeze(1).expand(-1, samples, -1), columns, size, special.pad)
        repeated = ngram_block.completions(history, nothing=special.pad)
        if repeated is not None:
            _forbid(choosable, repeated, columns, size, special.pad)
        if num_words < settings.min_length:
            choosable.scatter_(2, at_end, -torch.inf)
            # where every word is forbidden, a short summary is better than none
            nothing_left = (choosable == -torch.inf).all(2, keepdim=True)
            choosable.scatter_(2, at_end, torch.where(nothing_left, 0.0, -torch.inf).to(choosable.dtype))
        noise = torch.stack([torch.rand(samples, generator=g, dtype=torch.float64) for g in generators])
        places = draw(choosable, noise, settings)
        if num_words == settings.max_length:
            places = at_end.squeeze(2)
        chosen = ids.gather(1, places)
        chosen_log_probs = all_log_probs.gather(2, places.unsqueeze(2)).squeeze(2)
        generated = torch.cat([rest, words.generated], dim=2)
        copied = torch.cat([torch.full_like(rest, -torch.inf), words.copied], dim=2)
        trace.append(
            TraceStep(
                row_of_document=torch.arange(num_documents),
                ids=chosen,
                parents=own,
                log_probs=chosen_log_probs,
                generated=generated.gather(2, places.unsqueeze(2)).squeeze(2),
                copied=copied.gather(2, places.unsqueeze(2)).squeeze(2),
                end=end,
                attention=step.attention,
                p_gen=words.p_gen,
            )
        )
        is_open = steps < 0
        log_probs += torch.where(is_open, chosen_log_probs, 0.0)
        steps = torch.where(is_open & (chosen == special.eos), num_words, steps)
        if bool((steps >= 0).all()):
            break
        history = torch.cat([history, chosen.unsqueeze(2)], dim=2)
        previous = chosen.masked_fill(chosen >= size, special.unk)
    return read_hypotheses(trace, Endings(log_probs, log_probs, steps, own), special.eos)


def _forbid(choosable: Tensor, ids: Tensor, columns: Columns, size: int, pad: int) -> None:
    """Give -inf to words, by extended ids (B, K, X), among the vocabulary and the columns behind it."""
    choosable.scatter_(2, ids.masked_fill(ids >= size, pad), -torch.inf)
    in_column = (ids.unsqueeze(3) == columns.ids[:, None, None, :]).any(2)
    choosable[:, :, size:].masked_fill_(in_column, -torch.inf)


def draw(log_probs: Tensor, noise: Tensor, settings: SamplingSettings) -> Tensor:
    """Places drawn from the last dimension, by the inverse of the cumulative distribution.

    Args:
        log_probs: (B, K, N).
        noise: uniform on [0, 1), (B, K).
        settings: temperature, top_k and top_p.
    """
    in_order, places = (log_probs.double() / settings.temperature).sort(dim=2, descending=True, stable=True)
    probabilities = in_order.softmax(2)
    if settings.top_k:
        probabilities[:, :, settings.top_k :] = 0.0
    before = probabilities.cumsum(2) - probabilities
    mass = probabilities.sum(2, keepdim=True)
    probabilities = probabilities.masked_fill(before >= settings.top_p * mass, 0.0)
    cumulative = probabilities.cumsum(2)
    target = (noise.unsqueeze(2) * cumulative[:, :, -1:]).clamp(max=cumulative[:, :, -1:])
    chosen = torch.searchsorted(cumulative, target, right=True)
    last = (probabilities > 0).sum(2, keepdim=True) - 1
    return places.gather(2, torch.minimum(chosen, last)).squeeze(2)
