"""Summaries of raw texts by a trained model. Evaluation and the served model both go through here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from typing_extensions import override

from precis.decoding.beam_search import BeamSettings, beam_search
from precis.decoding.hypothesis import Hypothesis
from precis.decoding.penalties import Penalties
from precis.decoding.repetition import NgramBlock
from precis.decoding.sampling import SamplingSettings, sample
from precis.decoding.step import SpecialIds
from precis.models.base import SummarizationModel
from precis.models.source import Source
from precis.models.storage import load_model
from precis.serving.batch_decoder import BatchDecoder, in_bfloat16, output_matrix
from precis.serving.model_folder import check_vocabularies, read_text_settings
from precis.serving.output_scores import OutputMatrix
from precis.serving.text_summarizer import (
    BATCH_SIZE,
    Document,
    TextSummarizer,
    batches_of,
)
from precis.text.vocabulary import BOS_ID, EOS_ID, PAD_ID, SPECIAL_TOKENS, UNK_ID, Vocabulary

SPECIAL = SpecialIds(pad=PAD_ID, unk=UNK_ID, bos=BOS_ID, eos=EOS_ID)


@dataclass(frozen=True)
class Candidates:
    """All hypotheses of one document that ended, and what each of them reads."""

    hypotheses: list[Hypothesis]
    texts: list[str]
    num_source_words: int


class Summarizer(TextSummarizer):
    """A model with all that it needs to turn raw texts into summaries. It may be called from several threads.

    Args:
        model: in evaluation mode while summaries are made.
        source_vocabulary: of the documents.
        target_vocabulary: of the summaries.
        **text: see `TextSummarizer`.
    """

    def __init__(
        self,
        model: SummarizationModel,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        **text: Any,
    ) -> None:
        super().__init__(source_vocabulary, target_vocabulary, **text)
        self.model = model
        self._prepared: dict[tuple[bool, bool, bool], OutputMatrix | None] = {}
        self._bfloat16: SummarizationModel | None = None

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
            digest: of the files, as `precis.manifest` makes it; with it every summary gets an id.

        Raises:
            PrecisError: a file is missing, was changed since it was written, or is not what it should be.
        """
        directory = Path(directory)
        source, target, text = read_text_settings(directory)
        if run_id is not None:
            text["run_id"] = run_id
        model = load_model(directory)
        check_vocabularies(directory, source, target, model.options)
        return cls(model, source, target, **text, model_version=model_version, digest=digest)

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
        for batch in batches_of(documents, batch_size):
            hypotheses, steps_of_batch = self._search(batch, how)
            num_steps += steps_of_batch
            for document, of_document in zip(batch, hypotheses, strict=True):
                written = [self._write(document, one, how, keep_attention=False).text for one in of_document]
                found[document.number] = Candidates(of_document, written, len(document.tokens))
        return found, num_steps

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

    @contextmanager
    @override
    def _at_work(self) -> Iterator[None]:
        was_training = self.model.training
        if was_training:
            self.model.eval()
        try:
            yield
        finally:
            if was_training:
                self.model.train()

    @override
    def _search(self, batch: list[Document], how: Mapping[str, Any]) -> tuple[list[list[Hypothesis]], int]:
        source = Source(
            ids=_padded([document.source_ids for document in batch]),
            extended_ids=_padded([document.extended_ids for document in batch]),
            lengths=torch.tensor([len(document.source_ids) for document in batch]),
            num_oovs=max(len(document.source_oovs) for document in batch),
        ).to(self._device)
        banned = None
        if how["banned_words"]:
            banned = _padded([self._ids(how["banned_words"], document) for document in batch]).to(
                self._device
            )
        settings = self._beam_settings(how)
        with torch.inference_mode():
            shortlist, int8, bfloat16 = (bool(how.get(way)) for way in ("shortlist", "int8", "bfloat16"))
            output = self._output(shortlist=shortlist, int8=int8, bfloat16=bfloat16)
            decoder = BatchDecoder(self._in_bfloat16() if bfloat16 else self.model, output)
            memory = decoder.encode(source)
            if how.get("samples"):
                drawn = _sampling_settings(how)
                numbers = [document.number for document in batch]
                block = settings.ngram_block
                found = sample(decoder, memory, source.extended_ids, drawn, SPECIAL, numbers, banned, block)
            else:
                found = beam_search(decoder, memory, source.extended_ids, settings, SPECIAL, banned)
        return found, decoder.num_steps

    @property
    def _device(self) -> torch.device:
        """Where the model is now: while it is trained, that may be a GPU."""
        return next(self.model.parameters()).device

    def _output(self, *, shortlist: bool, int8: bool, bfloat16: bool) -> OutputMatrix | None:
        """The output layer; copies of its matrix are made when they are first asked for."""
        if not (shortlist or int8 or bfloat16):
            return output_matrix(self.model)
        key = shortlist, int8, bfloat16
        if key not in self._prepared:
            vocabulary = self.target_vocabulary
            listed = torch.tensor(
                [
                    id_
                    for id_ in range(len(vocabulary))
                    if id_ < len(SPECIAL_TOKENS) or vocabulary.summary_count(id_) > 0
                ]
            )
            self._prepared[key] = output_matrix(
                self.model, listed if shortlist else None, int8=int8, bfloat16=bfloat16
            )
        return self._prepared[key]

    def _in_bfloat16(self) -> SummarizationModel:
        """The model in bfloat16; it is copied when it is first asked for."""
        if self._bfloat16 is None:
            self._bfloat16 = in_bfloat16(self.model)
        return self._bfloat16


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


def _padded(rows: list[list[int]]) -> torch.Tensor:
    width = max(map(len, rows))
    return torch.tensor([row + [PAD_ID] * (width - len(row)) for row in rows], dtype=torch.int64)
