"""Summaries of raw texts by a trained model. Evaluation and the served model both go through here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from unicodedata import is_normalized, normalize

import torch

from precis.decoding.beam_search import BeamSettings, beam_search
from precis.decoding.hypotheses import Hypothesis
from precis.decoding.penalties import Penalties
from precis.decoding.provenance import Origin, origins
from precis.decoding.repetition import NgramBlock
from precis.decoding.sampling import SamplingSettings, sample
from precis.decoding.step import SpecialIds
from precis.errors import PrecisError
from precis.models.base import SummarizationModel
from precis.models.source import Source
from precis.models.storage import load_model
from precis.serving.answer_id import AnswerId
from precis.serving.batch_decoder import BatchDecoder, output_matrix
from precis.serving.output_scores import OutputMatrix
from precis.serving.settings import check_values
from precis.serving.summary import Attended, OriginName, Summary, SummaryToken
from precis.text.source_oovs import extend_source, words_of
from precis.text.tokenizer import JOINER, Token, Tokenizer, surface, with_surface
from precis.text.vocabulary import BOS_ID, EOS_ID, PAD_ID, SPECIAL_TOKENS, UNK_ID, Vocabulary

SPECIAL = SpecialIds(pad=PAD_ID, unk=UNK_ID, bos=BOS_ID, eos=EOS_ID)
TEXT_FILE = "text.json"
RUN_FILE = "run.json"
BYTE_ORDER_MARK = "\ufeff"
BATCH_SIZE = 64  # documents decoded together unless the caller says otherwise

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
OPTIONAL_DECODING_KEYS = {"n_best", "groups", "diversity", "stop_early", "shortlist", "int8"} | SAMPLING_KEYS


@dataclass(frozen=True)
class _Document:
    """A document as the model reads it."""

    number: int
    text: str
    tokens: list[Token]
    source_ids: list[int]
    extended_ids: list[int]
    source_oovs: list[str]


@dataclass(frozen=True)
class Candidates:
    """All hypotheses of one document that ended, and what each of them reads."""

    hypotheses: list[Hypothesis]
    texts: list[str]
    num_source_words: int


class Summarizer:
    """A model with all that it needs to turn raw texts into summaries. It may be called from several threads.

    Args:
        model: in evaluation mode while summaries are made.
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
        model: SummarizationModel,
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
        self.model = model
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.tokenizer = Tokenizer(lowercase=lowercase)
        self.source_max_length = source_max_length
        self.decoding = dict(decoding)
        self.run_id = run_id
        self.model_version = model_version
        self.digest = digest
        self._prepared: dict[tuple[bool, bool], OutputMatrix | None] = {}

    @classmethod
    def load(
        cls,
        directory: str | os.PathLike[str],
        *,
        run_id: str | None = None,
        model_version: str | None = None,
        digest: str | None = None,
    ) -> Self:
        """Load a model directory, such as models/pointer.

        Args:
            directory: model.safetensors, model.json, text.json, and the vocabulary files.
            run_id: the training run; where it is not given, what run.json says.
            model_version: the version in the registry, where known.
            digest: of the files, as `precis.registry.manifest` makes it; with it every summary gets an id.

        Raises:
            PrecisError: a file is missing or is not what it should be.
        """
        directory = Path(directory)
        text = _read_json(directory / TEXT_FILE)
        missing = {"lowercase", "source_max_length", "shared"} - text.keys()
        if missing:
            raise PrecisError(
                f"{directory / TEXT_FILE} lacks {', '.join(sorted(missing))}: train the model again"
            )
        if text["shared"]:
            source = target = Vocabulary.load(directory / "shared.txt")
        else:
            source = Vocabulary.load(directory / "source.txt")
            target = Vocabulary.load(directory / "target.txt")
        if run_id is None and (directory / RUN_FILE).is_file():
            run_id = _read_json(directory / RUN_FILE).get("run_id")
        # a model that was packaged knows how it was evaluated; before, the caller says how to decode
        text.setdefault("decoding", {})
        return cls(
            load_model(directory),
            source,
            target,
            **text,
            run_id=run_id,
            model_version=model_version,
            digest=digest,
        )

    def summarize(
        self,
        texts: str | Sequence[str],
        *,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int], object] | None = None,
        keep_attention: bool = False,
        **decoding: Any,
    ) -> list[Summary]:
        """Summarize texts, in their order; one text may be given alone.

        Args:
            texts: raw documents. One without any word gets the empty summary.
            batch_size: documents decoded together, chosen among `texts` by length.
            progress: called with the number of documents done since the last call.
            keep_attention: whether summaries carry the whole attention, not only the heaviest weights.
            **decoding: what to change in the decoding parameters, for example `beam_size=1`; also `n_best`,
                `groups` and `diversity`. With `samples` summaries are drawn at random instead, by `temperature`,
                `top_k`, `top_p` and `seed`; the first comes with the others as its alternatives.

        Raises:
            PrecisError: there is no such decoding parameter, or its value cannot be used.
        """
        if isinstance(texts, str):
            texts = [texts]
        how = self._settings(decoding)
        documents = [self._read(number, text) for number, text in enumerate(texts)]
        summaries: list[Summary | None] = [None] * len(documents)
        was_training = self.model.training
        if was_training:
            self.model.eval()
        try:
            for batch in _batches(documents, batch_size):
                hypotheses, _ = self._search(batch, how)
                for document, found in zip(batch, hypotheses, strict=True):
                    written = [self._write(document, hypothesis, how, keep_attention) for hypothesis in found]
                    summaries[document.number] = self._with_alternatives(document, written)
                if progress is not None:
                    progress(len(batch))
        finally:
            if was_training:
                self.model.train()
        return [
            self._with_id(
                document, self._with_alternatives(document, []) if summary is None else summary, how
            )
            for document, summary in zip(documents, summaries, strict=True)
        ]

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

    def candidates(
        self, texts: Sequence[str], *, beam_size: int, batch_size: int = BATCH_SIZE, **decoding: Any
    ) -> tuple[list[Candidates], int]:
        """All hypotheses that end in a search for each text, and the decoder steps that it took.

        A decoder step is one step of one hypothesis. How hypotheses are ranked changes nothing: other penalties
        would find the same ones.
        """
        how = self._settings(
            {**decoding, "beam_size": beam_size, "n_best": 2 * beam_size, "stop_early": False}
        )
        documents = [self._read(number, text) for number, text in enumerate(texts)]
        found = [Candidates([], [], len(document.tokens)) for document in documents]
        num_steps = 0
        for batch in _batches(documents, batch_size):
            hypotheses, steps_of_batch = self._search(batch, how)
            num_steps += steps_of_batch
            for document, of_document in zip(batch, hypotheses, strict=True):
                written = [self._write(document, one, how, keep_attention=False).text for one in of_document]
                found[document.number] = Candidates(of_document, written, len(document.tokens))
        return found, num_steps

    def words(self, text: str) -> list[str]:
        """A text's words, as this model sees them."""
        return self.tokenizer.words(text)

    def source_tokens(self, text: str) -> list[Token]:
        """The words of a document that the model reads, and where they stand in it."""
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

    def _beam_settings(self, how: Mapping[str, Any]) -> BeamSettings:
        return BeamSettings(
            beam_size=how["beam_size"],
            min_length=how["min_length"],
            max_length=how["max_length"],
            n_best=how.get("n_best", 1),
            penalties=Penalties(
                length=how["length_penalty"],
                length_alpha=how["length_alpha"],
                coverage=how["coverage_penalty"],
                coverage_beta=how["coverage_beta"],
            ),
            ngram_block=NgramBlock(
                how["block_ngrams"],
                tuple(
                    self.target_vocabulary.id(word)
                    for word in how["block_exceptions"]
                    if word in self.target_vocabulary
                ),
            ),
            groups=how.get("groups", 1),
            diversity=how.get("diversity", 0.0),
            stop_early=how.get("stop_early", True),
        )

    def _read(self, number: int, text: str) -> _Document:
        tokens = self.source_tokens(text)
        words = [token.text for token in tokens]
        extended_ids, source_oovs = extend_source(words, self.target_vocabulary)
        return _Document(number, text, tokens, self.source_vocabulary.ids(words), extended_ids, source_oovs)

    def _search(self, batch: list[_Document], how: Mapping[str, Any]) -> tuple[list[list[Hypothesis]], int]:
        """The best hypotheses of each document, and the decoder steps that it took to find them."""
        source = Source(
            ids=_padded([document.source_ids for document in batch]),
            extended_ids=_padded([document.extended_ids for document in batch]),
            lengths=torch.tensor([len(document.source_ids) for document in batch]),
            num_oovs=max(len(document.source_oovs) for document in batch),
        )
        banned = None
        if how["banned_words"]:
            banned = _padded([self._ids(how["banned_words"], document) for document in batch])
        settings = self._beam_settings(how)
        with torch.inference_mode():
            output = self._output(shortlist=bool(how.get("shortlist")), int8=bool(how.get("int8")))
            decoder = BatchDecoder(self.model, output)
            memory = decoder.encode(source)
            if how.get("samples"):
                drawn = _sampling_settings(how)
                numbers = [document.number for document in batch]
                block = settings.ngram_block
                found = sample(decoder, memory, source.extended_ids, drawn, SPECIAL, numbers, banned, block)
            else:
                found = beam_search(decoder, memory, source.extended_ids, settings, SPECIAL, banned)
        return found, decoder.num_steps

    def _output(self, *, shortlist: bool, int8: bool) -> OutputMatrix | None:
        """The output layer; copies of its matrix are made when they are first asked for."""
        if not (shortlist or int8):
            return output_matrix(self.model)
        key = shortlist, int8
        if key not in self._prepared:
            vocabulary = self.target_vocabulary
            listed = torch.tensor(
                [
                    id_
                    for id_ in range(len(vocabulary))
                    if id_ < len(SPECIAL_TOKENS) or vocabulary.summary_count(id_) > 0
                ]
            )
            self._prepared[key] = output_matrix(self.model, listed if shortlist else None, int8=int8)
        return self._prepared[key]

    def _ids(self, words: Sequence[str], document: _Document) -> list[int]:
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
        self, document: _Document, hypothesis: Hypothesis, how: Mapping[str, Any], keep_attention: bool
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

    def _rest(self, document: _Document) -> set[str]:
        """The words behind those that the model reads: who reads a summary finds them in the document, too."""
        if len(document.tokens) < self.source_max_length:
            return set()
        rest = document.text[document.tokens[-1].end :]
        return {surface(word) for word in self.tokenizer.words(normalize("NFC", rest))}

    def _spelling(self, document: _Document, id_: int, word: str, token: Token | None) -> str:
        if token is not None:
            return with_surface(word, document.text[token.start : token.end])
        if JOINER in word:  # a symbol, whose marks are still needed
            return word
        return self.target_vocabulary.surface(id_) if id_ < len(self.target_vocabulary) else word

    def _with_alternatives(self, document: _Document, written: list[Summary]) -> Summary:
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

    def _with_id(self, document: _Document, summary: Summary, how: Mapping[str, Any]) -> Summary:
        if self.digest is None:
            return summary
        answer = AnswerId.of(self.digest, document.text, summary.text, how)
        return replace(summary, summary_id=str(answer))


def _sampling_settings(how: Mapping[str, Any]) -> SamplingSettings:
    return SamplingSettings(
        samples=how["samples"],
        min_length=how["min_length"],
        max_length=how["max_length"],
        temperature=how.get("temperature", 1.0),
        top_k=how.get("top_k", 0),
        top_p=how.get("top_p", 1.0),
        seed=how.get("seed", 0),
    )


def _token(
    document: _Document,
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


def _batches(documents: list[_Document], batch_size: int) -> Iterator[list[_Document]]:
    """Documents of like length together, the longest first; those without words are left out."""
    by_length = sorted(
        (document for document in documents if document.tokens), key=lambda document: -len(document.tokens)
    )
    for start in range(0, len(by_length), batch_size):
        yield by_length[start : start + batch_size]


def _padded(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [PAD_ID] * (width - len(row)) for row in rows], dtype=torch.int64)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PrecisError(
            f"{path} is missing: {path.parent} is not the directory of a trained model"
        ) from error
    except ValueError as error:
        raise PrecisError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(contents, dict):
        raise PrecisError(f"{path}: expected an object, found {type(contents).__name__}")
    return contents
