"""A summary, every word of it accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

# what a request to a served model may ask for, and what it means not to
SERVED_PARAMETERS: dict[str, Any] = {"provenance": False, "beam_size": 0}

OriginName = Literal["copied", "generated", "unsupported"]


@dataclass(frozen=True, slots=True)
class Attended:
    """A word of the document that the model looked at, with its share of the attention."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class SummaryToken:
    """A word or punctuation mark of a summary.

    Attributes:
        text: as it stands in the summary: `summary.text[start:end]`.
        word: as the vocabulary has it.
        start, end: where it stands in the summary.
        origin: `copied` when more of its probability was copied than generated; of the generated ones,
            `unsupported` when it is neither in the document nor frequent in the training summaries.
        probability: of the word, given the words before: `generated` + `copied`.
        generated: probability that came from the vocabulary.
        copied: probability that came from the document.
        p_gen: probability of generating at this place; None for a model that cannot copy.
        source: for a copied word, where it stands in the document: `document[source[0]:source[1]]`.
        attended: the words of the document that got the most attention, heaviest first.
    """

    text: str
    word: str
    start: int
    end: int
    origin: OriginName
    probability: float
    generated: float
    copied: float
    p_gen: float | None
    source: tuple[int, int] | None
    attended: tuple[Attended, ...]

    def as_dict(self, digits: int = 6) -> dict[str, Any]:
        """Plain values for JSON; what is None is left out."""
        values: dict[str, Any] = {
            "text": self.text,
            "word": self.word,
            "start": self.start,
            "end": self.end,
            "origin": self.origin,
            "probability": round(self.probability, digits),
            "generated": round(self.generated, digits),
            "copied": round(self.copied, digits),
        }
        if self.p_gen is not None:
            values["p_gen"] = round(self.p_gen, digits)
        if self.source is not None:
            values["source"] = list(self.source)
        if self.attended:
            values["attended"] = [[a.start, a.end, round(a.weight, digits)] for a in self.attended]
        return values


@dataclass(frozen=True, slots=True)
class Summary:
    """A summary of one document.

    Attributes:
        text: the summary, in original case and spacing.
        tokens: its words with their origins.
        score: what the search ranked it by.
        log_prob: log-probability of the words and the end.
        num_source_words: words of the document that the model read.
        run_id: the training run of the model, where known.
        model_version: the version in the registry, where known.
        summary_id: what `precis trace` finds the version and the document by; None where the model's files have
            no digest.
        alternatives: the next best summaries, when more than one was asked for.
        attention: the attention of each word over the words that the model read, when asked for.
    """

    text: str
    tokens: tuple[SummaryToken, ...]
    score: float
    log_prob: float
    num_source_words: int
    run_id: str | None = None
    model_version: str | None = None
    summary_id: str | None = None
    alternatives: tuple[Summary, ...] = ()
    attention: tuple[tuple[float, ...], ...] | None = None

    @property
    def words(self) -> list[str]:
        """The words as the vocabulary has them."""
        return [token.word for token in self.tokens]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            "summary": self.text,
            "score": round(self.score, 6),
            "log_prob": round(self.log_prob, 6),
            "tokens": [token.as_dict() for token in self.tokens],
        }
        for name in ("run_id", "model_version", "summary_id"):
            value = getattr(self, name)
            if value is not None:
                values[name] = value
        if self.alternatives:
            values["alternatives"] = [alternative.as_dict() for alternative in self.alternatives]
        return values
