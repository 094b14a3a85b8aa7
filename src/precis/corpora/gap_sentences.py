"""Pairs to learn from before there is a summary: a sentence of a document, and the document without it.

The gap sentences of PEGASUS (Zhang et al., 2020, section 3.1): those that say most of what the rest says are the
likest to summaries. A pointer learns to find words that belong together, a decoder to write sentences of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from precis.evaluation.sentences import sentences

MIN_WORDS = 4  # of a gap sentence, between white space: greetings, names and numbers alone teach nothing


@dataclass(frozen=True)
class GapSentences:
    """A function of a batch of prepared rows alone.

    Attributes:
        number: gap sentences of each document, at most; each makes a pair.
        max_words: words of a document, between white space, among which they are looked for: no others are read.
        max_summary_words: of a gap sentence. One of up to twice as many is cut, a longer one is none.
    """

    number: int
    max_words: int
    max_summary_words: int

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give rows with the columns id, document and summary; none of a document with fewer than three sentences."""
        pairs: list[tuple[str, str, str]] = []
        rows = zip(batch.column("id").to_pylist(), batch.column("document").to_pylist(), strict=True)
        for row_id, document in rows:
            for place, (sentence, rest) in enumerate(self.pairs(document), start=1):
                pairs.append((f"{row_id}-gap{place}", rest, sentence))
        columns = [pa.array(column, pa.string()) for column in zip(*pairs, strict=True)] if pairs else None
        names = ["id", "document", "summary"]
        return pa.RecordBatch.from_arrays(columns or [pa.array([], pa.string())] * len(names), names=names)

    def pairs(self, document: str) -> list[tuple[str, str]]:
        """The gap sentences of a document with what is left of it, the best first."""
        cut, words = [], 0
        for sentence in sentences(document):
            cut.append(sentence)
            words += len(sentence.split())
            if words >= self.max_words:
                break
        if len(cut) < 3:
            return []
        distinct = [set(sentence.lower().split()) for sentence in cut]
        scores = []
        for place, sentence in enumerate(cut):
            if not MIN_WORDS <= len(sentence.split()) <= 2 * self.max_summary_words:
                continue
            rest = set().union(*distinct[:place], *distinct[place + 1 :])
            scores.append((len(distinct[place] & rest) / len(distinct[place]), -place))
        chosen = [-place for _, place in sorted(scores, reverse=True)[: self.number]]
        return [
            (_first_words(cut[i], self.max_summary_words), "\n".join(cut[:i] + cut[i + 1 :])) for i in chosen
        ]


def _first_words(sentence: str, number: int) -> str:
    return " ".join(sentence.split()[:number])
