"""Many decoding settings scored from a few searches: what only re-ranks needs no search of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from precis.decoding.penalties import Penalties
from precis.decoding.reranking import best
from precis.evaluation.rouge import ParallelRouge
from precis.serving.summarizer import Candidates, Summarizer

TIMED = 20  # documents that are summarized alone for each beam size, to tell how long one takes
LENGTH_PENALTIES = (("none", 1.0), ("average", 1.0), *(("wu", alpha / 10) for alpha in range(2, 22, 2)))
COVERAGE_PENALTIES = (
    ("none", 0.0),
    *(("wu", beta) for beta in (0.05, 0.1, 0.2, 0.4)),
    *(("summary", beta) for beta in (0.1, 0.3, 1.0, 3.0)),
)


@dataclass(frozen=True)
class Setting:
    """A beam size with penalties."""

    beam_size: int
    penalties: Penalties

    @property
    def decoding(self) -> dict[str, Any]:
        """As params.yaml writes it."""
        return {
            "beam_size": self.beam_size,
            "length_penalty": self.penalties.length,
            "length_alpha": self.penalties.length_alpha,
            "coverage_penalty": self.penalties.coverage,
            "coverage_beta": self.penalties.coverage_beta,
        }


@dataclass(frozen=True)
class Scored:
    """What a setting reaches: mean ROUGE in points, mean length in characters, seconds for one document alone."""

    setting: Setting
    rouge1: float
    rouge2: float
    rougeL: float  # noqa: N815 - its name everywhere
    characters: float
    seconds: float


@dataclass(frozen=True)
class Sweep:
    """All settings, and the decoder steps that were taken against those of a full search for each setting."""

    scored: list[Scored]
    num_steps: int
    num_steps_one_by_one: int

    @property
    def best(self) -> Scored:
        """The highest ROUGE-1 plus ROUGE-2; of equal ones the fastest."""
        return max(self.scored, key=lambda one: (one.rouge1 + one.rouge2, -one.seconds))


def grid(beam_sizes: Iterable[int], *, has_attention: bool) -> list[Setting]:
    """Every beam size with every length and coverage penalty."""
    coverages = COVERAGE_PENALTIES if has_attention else COVERAGE_PENALTIES[:1]
    return [
        Setting(beam_size, Penalties(length, alpha, coverage, beta))  # type: ignore[arg-type]
        for beam_size in beam_sizes
        for length, alpha in LENGTH_PENALTIES
        for coverage, beta in coverages
    ]


def sweep(
    summarizer: Summarizer,
    documents: Sequence[str],
    references: Sequence[Sequence[str]],
    settings: Sequence[Setting],
    rouge: ParallelRouge,
    *,
    decoding: Mapping[str, Any],
    batch_size: int,
    progress: Callable[[int], object],
) -> Sweep:
    """Score settings: one search per beam size, then every penalty on what it found.

    Args:
        summarizer: the model.
        documents: to choose on.
        references: of each document.
        settings: to score.
        rouge: scores texts, each text of a document once.
        decoding: everything that the settings do not change.
        batch_size: documents searched together.
        progress: called with 1 after each beam size.
    """
    scored: list[Scored] = []
    num_steps = one_by_one = 0
    for beam_size in sorted({setting.beam_size for setting in settings}):
        of_size = [setting for setting in settings if setting.beam_size == beam_size]
        how = {**decoding, "beam_size": beam_size}
        candidates, steps = summarizer.candidates(documents, batch_size=batch_size, **how)
        seconds = _latency(summarizer, documents[:TIMED], how)
        # the timed searches took at most so many
        num_steps += steps + min(TIMED, len(documents)) * beam_size * (decoding["max_length"] + 1)
        one_by_one += steps * len(of_size)
        table = _scores_of_texts(candidates, references, rouge)
        for setting in of_size:
            rows = []
            lengths = []
            for number, of_document in enumerate(candidates):
                text = ""
                if of_document.texts:
                    place = best(of_document.hypotheses, of_document.num_source_words, setting.penalties)
                    text = of_document.texts[place]
                rows.append(table[number, text])
                lengths.append(len(text))
            rouge1, rouge2, rouge_l, _ = (100 * np.mean(rows, axis=0)).tolist()
            scored.append(Scored(setting, rouge1, rouge2, rouge_l, float(np.mean(lengths)), seconds))
        progress(1)
    return Sweep(scored, num_steps, one_by_one)


def _latency(summarizer: Summarizer, documents: Sequence[str], how: Mapping[str, Any]) -> float:
    """The median time of summarizing one document alone, as a served model does, in seconds."""
    seconds = []
    for document in documents:
        start = time.perf_counter()
        summarizer.summarize(document, **how)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def _scores_of_texts(
    candidates: Sequence[Candidates], references: Sequence[Sequence[str]], rouge: ParallelRouge
) -> dict[tuple[int, str], Sequence[float]]:
    """ROUGE of every different text of every document."""
    keys = [
        (number, text)
        for number, of_document in enumerate(candidates)
        for text in dict.fromkeys([*of_document.texts, ""])
    ]
    scores = rouge.score((references[number], text) for number, text in keys).values
    return dict(zip(keys, scores.tolist(), strict=True))
