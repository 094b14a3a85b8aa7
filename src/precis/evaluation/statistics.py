"""What is in a summary besides its score: copied, new, repeated, unknown to the vocabulary."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST_NGRAM = 4


@dataclass(frozen=True)
class DocumentStatistics:
    """Counts of one summary, to be added up over documents.

    Attributes:
        num_words: words of the summary.
        num_reference_words: words of the reference.
        num_source_words: words of the document.
        oov_references: words of the reference outside the target vocabulary.
        oov_recalled: those of them that the summary has, each at most as often.
        ngrams: distinct n-grams of the summary for n = 1 to 4.
        novel_ngrams: those of them that the document has not.
        repeated_ngrams: n-grams of the summary, each occurrence counted, that came before in it.
        all_ngrams: n-grams of the summary, each occurrence counted.
        copied_spans: lengths of the longest runs of words that stand in the document as they are, two or more.
        whole_sentences: sentences of the summary that are sentences of the document.
        num_sentences: sentences of the summary.
    """

    num_words: int
    num_reference_words: int
    num_source_words: int
    oov_references: int
    oov_recalled: int
    ngrams: tuple[int, ...]
    novel_ngrams: tuple[int, ...]
    repeated_ngrams: tuple[int, ...]
    all_ngrams: tuple[int, ...]
    copied_spans: tuple[int, ...]
    whole_sentences: int
    num_sentences: int


def document_statistics(
    summary: Sequence[str],
    reference: Sequence[str],
    source: Sequence[str],
    *,
    known: Callable[[str], bool],
    summary_sentences: Sequence[str] = (),
    source_sentences: Sequence[str] = (),
) -> DocumentStatistics:
    """Count one document.

    Args:
        summary: its words.
        reference: words of the reference.
        source: words of the document.
        known: tells whether the target vocabulary has a word.
        summary_sentences: sentences of the summary, as text.
        source_sentences: sentences of the document, as text.
    """
    unknown = Counter(word for word in reference if not known(word))
    grams = [_ngrams(summary, n) for n in range(1, LONGEST_NGRAM + 1)]
    of_source = [set(_ngrams(source, n)) for n in range(1, LONGEST_NGRAM + 1)]
    distinct = [set(of_size) for of_size in grams]
    in_source = {_folded(sentence) for sentence in source_sentences}
    return DocumentStatistics(
        num_words=len(summary),
        num_reference_words=len(reference),
        num_source_words=len(source),
        oov_references=unknown.total(),
        oov_recalled=(unknown & Counter(summary)).total(),
        ngrams=tuple(len(of_size) for of_size in distinct),
        novel_ngrams=tuple(len(mine - theirs) for mine, theirs in zip(distinct, of_source, strict=True)),
        repeated_ngrams=tuple(len(of_size) - len(set(of_size)) for of_size in grams),
        all_ngrams=tuple(len(of_size) for of_size in grams),
        copied_spans=copied_spans(summary, source),
        whole_sentences=sum(_folded(sentence) in in_source for sentence in summary_sentences),
        num_sentences=len(summary_sentences),
    )


def repeated_share(summaries: Iterable[Sequence[str]], *, size: int) -> float:
    """The share of the n-grams of so many words that repeat an earlier one of their summary; 0 without any."""
    repeated = total = 0
    for summary in summaries:
        grams = _ngrams(summary, size)
        total += len(grams)
        repeated += len(grams) - len(set(grams))
    return repeated / total if total else 0.0


def copied_spans(summary: Sequence[str], source: Sequence[str]) -> tuple[int, ...]:
    """Lengths of the runs of two or more words that stand in the source as they are, found greedily.

    From left to right, the longest run that begins at each word (the extractive fragments of Grusky et al.,
    2018, of two words or more).
    """
    places: dict[str, list[int]] = {}
    for place, word in enumerate(source):
        places.setdefault(word, []).append(place)
    spans = []
    start = 0
    while start < len(summary):
        longest = max(
            (_run(summary, start, source, place) for place in places.get(summary[start], ())), default=0
        )
        if longest >= 2:
            spans.append(longest)
        start += max(1, longest)
    return tuple(spans)


def _run(summary: Sequence[str], start: int, source: Sequence[str], place: int) -> int:
    length = 0
    while (
        start + length < len(summary)
        and place + length < len(source)
        and summary[start + length] == source[place + length]
    ):
        length += 1
    return length


def _ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]


def _folded(sentence: str) -> str:
    return " ".join(sentence.lower().split()).rstrip(".!?")


@dataclass
class Totals:
    """Sums over documents, and the shares that follow from them."""

    num_documents: int = 0
    num_empty: int = 0
    words: int = 0
    reference_words: int = 0
    source_words: int = 0
    oov_references: int = 0
    oov_recalled: int = 0
    ngrams: list[int] = field(default_factory=lambda: [0] * LONGEST_NGRAM)
    novel_ngrams: list[int] = field(default_factory=lambda: [0] * LONGEST_NGRAM)
    repeated_ngrams: list[int] = field(default_factory=lambda: [0] * LONGEST_NGRAM)
    all_ngrams: list[int] = field(default_factory=lambda: [0] * LONGEST_NGRAM)
    copied_words: int = 0
    num_spans: int = 0
    longest_span: int = 0
    whole_sentences: int = 0
    num_sentences: int = 0

    def add(self, document: DocumentStatistics) -> None:
        """Count one more document."""
        self.num_documents += 1
        self.num_empty += document.num_words == 0
        self.words += document.num_words
        self.reference_words += document.num_reference_words
        self.source_words += document.num_source_words
        self.oov_references += document.oov_references
        self.oov_recalled += document.oov_recalled
        for total, counts in (
            (self.ngrams, document.ngrams),
            (self.novel_ngrams, document.novel_ngrams),
            (self.repeated_ngrams, document.repeated_ngrams),
            (self.all_ngrams, document.all_ngrams),
        ):
            for place, count in enumerate(counts):
                total[place] += count
        self.copied_words += sum(document.copied_spans)
        self.num_spans += len(document.copied_spans)
        self.longest_span = max([self.longest_span, *document.copied_spans])
        self.whole_sentences += document.whole_sentences
        self.num_sentences += document.num_sentences

    def metrics(self) -> dict[str, float]:
        """Shares and means over all documents together; a share of nothing is 0."""
        novel = {
            f"novel_{n}grams": share(self.novel_ngrams[n - 1], self.ngrams[n - 1])
            for n in range(1, LONGEST_NGRAM + 1)
        }
        return {
            "num_documents": self.num_documents,
            "oov_references": self.oov_references,
            "oov_reference_rate": share(self.oov_references, self.reference_words),
            "oov_recall": share(self.oov_recalled, self.oov_references),
            # words that came before, and three-word phrases that did
            "repetition": share(self.repeated_ngrams[2], self.all_ngrams[2]),
            "repeated_1grams": share(self.repeated_ngrams[0], self.all_ngrams[0]),
            "repeated_2grams": share(self.repeated_ngrams[1], self.all_ngrams[1]),
            **novel,
            "mean_length": share(self.words, self.num_documents),
            "length_ratio": share(self.words, self.reference_words),
            "compression": share(self.words, self.source_words),
            "copied_span_mean": share(self.copied_words, self.num_spans),
            "copied_span_longest": self.longest_span,
            "copied_span_coverage": share(self.copied_words, self.words),
            "copied_sentences": share(self.whole_sentences, self.num_sentences),
            "empty_summaries": share(self.num_empty, self.num_documents),
        }


def share(part: float, whole: float) -> float:
    """What part / whole is; 0 when there is nothing."""
    return part / whole if whole else 0.0


@dataclass
class Duplicates:
    """How often the same summary is given to different documents."""

    counts: Counter[bytes] = field(default_factory=Counter)

    def add(self, summary: str) -> None:
        """Count one more summary; only a digest of it is kept."""
        self.counts[hashlib.blake2b(summary.encode(), digest_size=8).digest()] += 1

    def metrics(self) -> dict[str, float]:
        """Distinct summaries per document, and the share of the most frequent one."""
        total = self.counts.total()
        most = max(self.counts.values(), default=0)
        return {
            "distinct_summaries": share(len(self.counts), total),
            "most_common_summary": share(most, total),
        }


def degeneration_hints(metrics: dict[str, float]) -> list[str]:
    """What is plainly wrong with a system's summaries, and where the cause usually lies."""
    hints = []
    if metrics["num_documents"] >= 20 and metrics["most_common_summary"] > 0.2:
        hints.append(
            f"the same summary was written for {metrics['most_common_summary']:.0%} of the documents: the model "
            "has not learned to read its source; train longer, lower train.learning_rate, or use the pointer"
        )
    if metrics["empty_summaries"] > 0.05:
        hints.append(
            f"{metrics['empty_summaries']:.0%} of the summaries are empty: raise decoding.min_length, or set "
            "decoding.length_penalty to average or wu"
        )
    if metrics["repetition"] > 0.1:
        hints.append(
            f"{metrics['repetition']:.0%} of the three-word phrases repeat an earlier one: set "
            "decoding.block_ngrams to 3, or train with coverage"
        )
    if metrics.get("unsupported_summaries", 0.0) > 0.1:
        hints.append(
            f"{metrics['unsupported_summaries']:.0%} of the summaries have no word that the document has or that is "
            "frequent: the model writes at random; train longer, or see whether train.learning_rate is too high"
        )
    if metrics.get("oov_reference_rate", 0.0) > 0.2 and metrics["oov_recall"] < 0.05:
        hints.append(
            f"{metrics['oov_reference_rate']:.0%} of the words of the references are unknown to the vocabulary, and "
            "the model writes hardly any of them: raise vocabulary.target_size, or use the pointer model"
        )
    if metrics.get("unsupported_rate", 0.0) > 0.1:
        hints.append(
            f"{metrics['unsupported_rate']:.0%} of the words are rare words that the document has not: the model "
            "guesses names and numbers; use the pointer model, or train longer"
        )
    if metrics["length_ratio"] > 2 or 0 < metrics["length_ratio"] < 0.5:
        hints.append(
            f"summaries are {metrics['length_ratio']:.1f} times as long as the references: see "
            "decoding.min_length, decoding.max_length and decoding.length_penalty"
        )
    return hints


def length_bucket(num_words: int, bounds: Iterable[int]) -> int:
    """The number of the bucket of a document of so many words: below the first bound is 0."""
    return sum(num_words >= bound for bound in bounds)


class WordOrigin(NamedTuple):
    """Where a word of a summary came from.

    Attributes:
        origin: copied, generated or unsupported.
        copied_mass: share of its probability that was copied.
        p_gen: probability of generating, or None for a model that cannot copy.
    """

    origin: str
    copied_mass: float
    p_gen: float | None


@dataclass
class OriginTotals:
    """Where the words of a model's summaries came from."""

    num_summaries: int = 0
    num_unsupported: int = 0
    words: int = 0
    copied: int = 0
    unsupported: int = 0
    copied_mass: float = 0.0
    p_gen: float = 0.0
    num_p_gen: int = 0

    def add(self, summary: Sequence[WordOrigin]) -> None:
        """Count one more summary by its words."""
        unsupported = sum(word.origin == "unsupported" for word in summary)
        self.num_summaries += 1
        self.num_unsupported += 0 < unsupported == len(summary)
        self.words += len(summary)
        self.copied += sum(word.origin == "copied" for word in summary)
        self.unsupported += unsupported
        self.copied_mass += sum(word.copied_mass for word in summary)
        p_gens = [word.p_gen for word in summary if word.p_gen is not None]
        self.p_gen += sum(p_gens)
        self.num_p_gen += len(p_gens)

    def metrics(self) -> dict[str, float]:
        """Shares of words and of summaries; `p_gen_mean` only for models that can copy."""
        metrics = {
            "copy_rate": share(self.copied, self.words),
            "copied_mass": share(self.copied_mass, self.words),
            "unsupported_rate": share(self.unsupported, self.words),
            "unsupported_summaries": share(self.num_unsupported, self.num_summaries),
        }
        if self.num_p_gen:
            metrics["p_gen_mean"] = self.p_gen / self.num_p_gen
        return metrics
