"""From raw texts to a model's ids, and from its hypotheses to summaries: all of it but the model. No torch."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, overload
from unicodedata import is_normalized, normalize

from precis.decoding.hypothesis import Hypothesis
from precis.decoding.provenance import Origin, origins
from precis.errors import PrecisError
from precis.serving.answer_id import AnswerId
from precis.serving.settings import check_values
from precis.serving.summary import Attended, OriginName, Summary, SummaryToken
from precis.text.source_oovs import extend_source, words_of
from precis.text.tokenizer import JOINER, Token, Tokenizer, surface, with_surface
from precis.text.vocabulary import Vocabulary

BYTE_ORDER_MARK = "\ufeff"
BATCH_SIZE = 64  # documents decoded together unless the caller says otherwise
MOST_CHARACTERS = 10_000_000  # of a text: no document is longer, and a mistake should not fill the memory
_LONGEST_CHUNK = 100_000  # characters without white space that are read as words
_CHUNK = re.compile(r"\S+")

DECODING_KEYS = {
    "beam_size",
    "min_length",
    "max_length",
    "length_penalty",
    "length_alpha",
    "coverage_penalty",
    "coverage_beta",
    "block_ngrams",
    "block_exceptions",
    "banned_words",
    "frequent_words",
}
SAMPLING_KEYS = {"samples", "temperature", "top_k", "top_p", "seed"}
FASTER_WAYS = {"shortlist", "int8", "bfloat16"}
OPTIONAL_DECODING_KEYS = {"n_best", "groups", "diversity", "stop_early"} | FASTER_WAYS | SAMPLING_KEYS


@dataclass(frozen=True)
class Document:
    """A document as the model reads it."""

    number: int
    text: str
    tokens: list[Token]
    source_ids: list[int]
    extended_ids: list[int]
    source_oovs: list[str]


class TextSummarizer(ABC):
    """All of a summarizer but its model: texts become ids, hypotheses become summaries.

    Args:
        source_vocabulary: of the documents.
        target_vocabulary: of the summaries.
        lowercase: whether words are lower-cased for the model.
        source_max_length: words of a document that are read; the rest is ignored.
        shared: whether both vocabularies are the same one.
        decoding: what `summarize` uses unless told otherwise: see `params.yaml: decoding`.
        run_id: the training run, where known.
        model_version: the version in the registry, where known.
        digest: of the model's files; with it every summary gets an id.
    """

    def __init__(
        self,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        lowercase: bool,
        source_max_length: int,
        shared: bool,
        decoding: Mapping[str, Any],
        run_id: str | None = None,
        model_version: str | None = None,
        digest: str | None = None,
    ) -> None:
        assert not shared or len(source_vocabulary) == len(target_vocabulary)
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.tokenizer = Tokenizer(lowercase=lowercase)
        self.source_max_length = source_max_length
        self.decoding = dict(decoding)
        self.run_id = run_id
        self.model_version = model_version
        self.digest = digest

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Around the making of summaries."""
        yield

    @abstractmethod
    def _search(self, batch: list[Document], how: Mapping[str, Any]) -> tuple[list[list[Hypothesis]], int]:
        """The best hypotheses of each document, and the decoder steps that it took to find them."""

    @overload
    def summarize(
        self, texts: str, *, batch_size: int = ..., progress: Callable[[int], object] | None = ...,
        keep_attention: bool = ..., **decoding: Any,
    ) -> Summary: ...  # fmt: skip

    @overload
    def summarize(
        self, texts: Sequence[str], *, batch_size: int = ..., progress: Callable[[int], object] | None = ...,
        keep_attention: bool = ..., **decoding: Any,
    ) -> list[Summary]: ...  # fmt: skip

    def summarize(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int], object] | None = None,
        keep_attention: bool = False,
        **decoding: Any,
    ) -> Summary | list[Summary]:
        """Summarize a text, or several in their order.

        Args:
            texts: a raw document, or a list of them. One without any word gets the empty summary.
            batch_size: documents decoded together, chosen among `texts` by length.
            progress: called with the number of documents done since the last call.
            keep_attention: whether summaries carry the whole attention, not only the heaviest weights.
            **decoding: what to change in the decoding parameters, for example `beam_size=1`; also `n_best`,
                `groups` and `diversity`. With `samples` summaries are drawn at random instead, by `temperature`,
                `top_k`, `top_p` and `seed`; the first comes with the others as its alternatives.

        Returns:
            one summary for one text, a list for a list; an empty list for an empty one.

        Raises:
            PrecisError: what was given is no text, is longer than `MOST_CHARACTERS`, there is no such decoding
                parameter, or its value cannot be used.
        """
        several = checked_texts(texts)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise PrecisError(f"batch_size: expected a whole number from 1, found {batch_size!r}")
        how = self._settings(decoding)
        documents = [self._read(number, text) for number, text in enumerate(several)]
        summaries: list[Summary | None] = [None] * len(documents)
        with self._at_work():
            for batch in batches_of(documents, batch_size):
                hypotheses, _ = self._search(batch, how)
                for document, found in zip(batch, hypotheses, strict=True):
                    written = [self._write(document, hypothesis, how, keep_attention) for hypothesis in found]
                    summaries[document.number] = self._with_alternatives(document, written)
                if progress is not None:
                    progress(len(batch))
        made = [
            self._with_id(
                document, self._with_alternatives(document, []) if summary is None else summary, how
            )
            for document, summary in zip(documents, summaries, strict=True)
        ]
        return made[0] if isinstance(texts, str) else made

    def serve(
        self, texts: Sequence[str], *, provenance: bool = False, beam_size: int = 0
    ) -> list[str] | list[dict[str, Any]]:
        """Answer a request for summaries, as plain values.

        Args:
            texts: raw documents.
            provenance: give `Summary.as_dict` of each, not its text alone.
            beam_size: hypotheses kept open; 0: as the model was evaluated.

        Raises:
            PrecisError: a value cannot be used.
        """
        changes: dict[str, Any] = {"beam_size": beam_size} if beam_size else {}
        summaries = self.summarize(texts, **changes)
        return [one.as_dict() for one in summaries] if provenance else [one.text for one in summaries]

    def words(self, text: str) -> list[str]:
        """A text's words, as this model sees them."""
        return self.tokenizer.words(text)

    def source_tokens(self, text: str) -> list[Token]:
        """The words of a document that the model reads, and where they stand in it."""
        text = _part_that_is_read(text, self.source_max_length)
        tokens = self.tokenizer.tokens(text)[: self.source_max_length]
        if is_normalized("NFC", text) and BYTE_ORDER_MARK not in text:
            return tokens
        # the words as `prepare` would have them, the offsets as they are in the raw text
        composed = (replace(token, text=normalize("NFC", token.text)) for token in tokens)
        return [token for token in composed if surface(token.text) != BYTE_ORDER_MARK]

    def _settings(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        unknown = changes.keys() - DECODING_KEYS - OPTIONAL_DECODING_KEYS
        if unknown:
            known = ", ".join(sorted(DECODING_KEYS | OPTIONAL_DECODING_KEYS))
            raise PrecisError(
                f"there is no decoding parameter {', '.join(sorted(unknown))}: there are {known}"
            )
        check_values(changes)
        how = {**self.decoding, **changes}
        missing = DECODING_KEYS - how.keys()
        if missing:
            raise PrecisError(f"the decoding parameters lack {', '.join(sorted(missing))}")
        return how

    def _read(self, number: int, text: str) -> Document:
        tokens = self.source_tokens(text)
        words = [token.text for token in tokens]
        extended_ids, source_oovs = extend_source(words, self.target_vocabulary)
        return Document(number, text, tokens, self.source_vocabulary.ids(words), extended_ids, source_oovs)

    def _ids(self, words: Sequence[str], document: Document) -> list[int]:
        """Extended ids of those of the words that a summary of the document could have."""
        size = len(self.target_vocabulary)
        return [
            self.target_vocabulary.id(word)
            if word in self.target_vocabulary
            else size + document.source_oovs.index(word)
            for word in words
            if word in self.target_vocabulary or word in document.source_oovs
        ]

    def _write(
        self, document: Document, hypothesis: Hypothesis, how: Mapping[str, Any], keep_attention: bool
    ) -> Summary:
        """Turn ids into text: copied words as the document has them, others as they are usually written."""
        ids = hypothesis.ids.tolist()
        words = words_of(ids, self.target_vocabulary, document.source_oovs)
        traced = origins(hypothesis, document.extended_ids)
        sources = [None if origin.position is None else document.tokens[origin.position] for origin in traced]
        written = [
            self._spelling(document, id_, word, token)
            for id_, word, token in zip(ids, words, sources, strict=True)
        ]
        text = self.tokenizer.detokenize(written)
        in_source = set(document.extended_ids)
        rest: set[str] | None = None  # hardly ever asked for
        tokens = []
        end = 0
        for id_, word, form, token, origin in zip(ids, words, written, sources, traced, strict=True):
            shown = surface(form)
            start = text.index(shown, end)
            end = start + len(shown)
            is_supported = id_ in in_source or id_ < how["frequent_words"]
            if not is_supported:
                rest = self._rest(document) if rest is None else rest
                is_supported = surface(word) in rest
            name: OriginName = "generated" if is_supported else "unsupported"
            tokens.append(
                _token(document, shown, word, start, "copied" if token is not None else name, origin, token)
            )
        attention = None
        if keep_attention and hypothesis.attention is not None:
            rows = hypothesis.attention[: len(words), : len(document.tokens)].tolist()
            attention = tuple(map(tuple, rows))
        return Summary(
            text=text,
            tokens=tuple(tokens),
            score=hypothesis.score,
            log_prob=hypothesis.log_prob,
            num_source_words=len(document.tokens),
            run_id=self.run_id,
            model_version=self.model_version,
            attention=attention,
        )

    def _rest(self, document: Document) -> set[str]:
        """The words behind those that the model reads: who reads a summary finds them in the document, too."""
        if len(document.tokens) < self.source_max_length:
            return set()
        rest = document.text[document.tokens[-1].end :]
        return {surface(word) for word in self.tokenizer.words(normalize("NFC", rest))}

    def _spelling(self, document: Document, id_: int, word: str, token: Token | None) -> str:
        if token is not None:
            return with_surface(word, document.text[token.start : token.end])
        if JOINER in word:  # a symbol, whose marks are still needed
            return word
        return self.target_vocabulary.surface(id_) if id_ < len(self.target_vocabulary) else word

    def _with_alternatives(self, document: Document, written: list[Summary]) -> Summary:
        if not written:
            return Summary(
                text="",
                tokens=(),
                score=0.0,
                log_prob=0.0,
                num_source_words=len(document.tokens),
                run_id=self.run_id,
                model_version=self.model_version,
            )
        if len(written) == 1:
            return written[0]
        return replace(written[0], alternatives=tuple(written[1:]))

    def _with_id(self, document: Document, summary: Summary, how: Mapping[str, Any]) -> Summary:
        if self.digest is None:
            return summary
        answer = AnswerId.of(self.digest, document.text, summary.text, how)
        return replace(summary, summary_id=str(answer))


def _token(
    document: Document,
    shown: str,
    word: str,
    start: int,
    name: OriginName,
    origin: Origin,
    token: Token | None,
) -> SummaryToken:
    attended = (
        (document.tokens[place], weight) for place, weight in origin.attended if place < len(document.tokens)
    )
    return SummaryToken(
        text=shown,
        word=word,
        start=start,
        end=start + len(shown),
        origin=name,
        probability=origin.probability,
        generated=origin.generated,
        copied=origin.copied,
        p_gen=origin.p_gen,
        source=None if token is None else (token.start, token.end),
        attended=tuple(Attended(at.start, at.end, weight) for at, weight in attended),
    )


def batches_of(documents: list[Document], batch_size: int) -> Iterator[list[Document]]:
    """Documents of like length together, the longest first; those without words are left out."""
    by_length = sorted(
        (document for document in documents if document.tokens), key=lambda document: -len(document.tokens)
    )
    for start in range(0, len(by_length), batch_size):
        yield by_length[start : start + batch_size]


def checked_texts(texts: object) -> list[str]:
    """The texts that somebody gave, one or several.

    Raises:
        PrecisError: it is nothing that can be summarized.
    """
    if isinstance(texts, str):
        texts = [texts]
    elif isinstance(texts, bytes | Mapping) or not isinstance(texts, Iterable):
        raise PrecisError(f"expected a text or a list of texts, found {_told(texts)}")
    checked = []
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str):
            raise PrecisError(f"text {number} of the list: expected a text, found {_told(text)}")
        if len(text) > MOST_CHARACTERS:
            raise PrecisError(
                f"text {number} has {len(text):,} characters, and {MOST_CHARACTERS:,} are the most: cut it; a model "
                "reads the first words of a document only"
            )
        checked.append(text)
    return checked


def _told(value: object) -> str:
    return "None" if value is None else f"{type(value).__name__} {value!r:.60}"


def _part_that_is_read(text: str, num_words: int) -> str:
    """The beginning of a text that has its first words: each run without white space holds one at least."""
    end = 0
    for chunk in islice(_CHUNK.finditer(text), num_words):
        end = min(chunk.end(), chunk.start() + _LONGEST_CHUNK)
        if end < chunk.end():
            break
    return text[:end]
