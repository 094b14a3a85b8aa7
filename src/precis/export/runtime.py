"""Summaries by an exported model: numpy and onnxruntime, no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from precis.decoding.hypothesis import Hypothesis
from precis.errors import PrecisError
from precis.export.beam_search import DocumentSearch, SearchSettings
from precis.manifest import check_manifest
from precis.serving.model_folder import read_json, read_text_settings
from precis.serving.text_summarizer import Document, TextSummarizer
from precis.text.vocabulary import PAD_ID, SPECIAL_TOKENS, Vocabulary

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = 1
ENCODER_FILE, DECODER_FILE, EXPORT_FILE = "encoder.onnx", "decoder.onnx", "export.json"
_ABOUT = {"memory", "state", "copies", "attends", "digest", "run_id", "model_version"}

Array = NDArray[Any]


class OnnxSummarizer(TextSummarizer):
    """An exported model with all that it needs to turn texts into summaries. It may be called from several threads.

        >>> from precis.export.runtime import OnnxSummarizer
        >>> OnnxSummarizer.load("exported").summarize("A long text …").text

    It has the parameters and the answers of `precis.Summarizer`, but draws no `samples`. `int8` and `bfloat16`, cheaper
    ways to nearly the same numbers, change nothing here: it computes in full.
    """

    def __init__(
        self,
        encoder: InferenceSession,
        decoder: InferenceSession,
        about: Mapping[str, Any],
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        **text: Any,
    ) -> None:
        super().__init__(source_vocabulary, target_vocabulary, **text)
        self._encoder, self._decoder = encoder, decoder
        self._encoder_outputs = [output.name for output in encoder.get_outputs()]
        self._decoder_outputs = [output.name for output in decoder.get_outputs()]
        self._memory_names: list[str] = about["memory"]
        self._state_shapes: dict[str, list[str | int]] = about["state"]
        self._copies, self._attends = bool(about["copies"]), bool(about["attends"])

    @classmethod
    def load(cls, directory: str | os.PathLike[str], *, threads: int = 1) -> Self:
        """Load a folder that `precis export` made, after checking its files.

        Args:
            directory: with its manifest.
            threads: of onnxruntime, for one summary; 0: as many as there are cores.

        Raises:
            PrecisError: it is no such folder, it is damaged, or onnxruntime is not installed.
        """
        directory = Path(directory)
        if not (directory / EXPORT_FILE).is_file():
            raise PrecisError(
                f"{directory} has no {EXPORT_FILE}: make it with `precis export MODEL --out DIR`"
            )
        check_manifest(directory)
        about = read_json(directory / EXPORT_FILE)
        if about.get("format") != FORMAT:
            raise PrecisError(
                f"{directory / EXPORT_FILE}: expected format {FORMAT}, found {about.get('format')!r}; export again"
            )
        if missing := sorted(_ABOUT - about.keys()):
            raise PrecisError(f"{directory / EXPORT_FILE} lacks {', '.join(missing)}; export the model again")
        source, target, text = read_text_settings(directory)
        text["run_id"] = about["run_id"] or text.get("run_id")
        encoder, decoder = (_session(directory / name, threads) for name in (ENCODER_FILE, DECODER_FILE))
        return cls(
            encoder, decoder, about, source, target, **text,
            model_version=about["model_version"], digest=about["digest"],
        )  # fmt: skip

    @override
    def _search(self, batch: list[Document], how: Mapping[str, Any]) -> tuple[list[list[Hypothesis]], int]:
        if how.get("samples"):
            raise PrecisError("an exported model draws no samples: use the model itself, with torch")
        settings = self._search_settings(how)
        allowed = self._listed if how.get("shortlist") else None
        searches = [
            DocumentSearch(
                settings,
                document.extended_ids,
                vocabulary_size=len(self.target_vocabulary),
                banned_ids=self._ids(how["banned_words"], document),
                allowed=allowed,
                copies=self._copies,
                attends=self._attends,
            )
            for document in batch
        ]
        memory, state = self._encode(batch)
        rows = list(range(len(batch)))  # documents that are still searched
        num_steps = 0
        while rows:
            previous_ids = np.stack([searches[row].previous_ids for row in rows])
            num_steps += previous_ids.size
            values = self._step(previous_ids, memory, state)
            for place, row in enumerate(rows):
                num_words = len(batch[row].extended_ids)
                searches[row].step(
                    values["log_probs"][place] if "log_probs" in values else None,
                    values["attention"][place, :, :num_words] if "attention" in values else None,
                    values["p_gen_logit"][place, :, 0] if "p_gen_logit" in values else None,
                )
            open_places = [place for place, row in enumerate(rows) if not searches[row].done]
            if len(open_places) < len(rows):
                memory = {name: tensor[open_places] for name, tensor in memory.items()}
            rows = [rows[place] for place in open_places]
            if rows:
                parents = np.stack([searches[row].parents for row in rows])
                places = np.array(open_places)[:, None]
                state = {name: values[f"new_{name}"][places, parents] for name in self._state_shapes}
        return [search.hypotheses() for search in searches], num_steps

    def _encode(self, batch: list[Document]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Memory, and the state of one beam of each document before the first word."""
        lengths = np.array([len(document.source_ids) for document in batch], dtype=np.int64)
        ids = np.full((len(batch), int(lengths.max())), PAD_ID, dtype=np.int64)
        for place, document in enumerate(batch):
            ids[place, : lengths[place]] = document.source_ids
        outputs = self._encoder.run(None, {"ids": ids, "lengths": lengths})
        found = dict(zip(self._encoder_outputs, outputs, strict=True))
        sizes = {"documents": len(batch), "beams": 1, "words": ids.shape[1], "steps": 0}
        state = {}
        for name, shape in self._state_shapes.items():
            zeros = np.zeros(
                [sizes[size] if isinstance(size, str) else size for size in shape], dtype=np.float32
            )
            state[name] = found[name][:, None] if name in found else zeros
        return {name: found[name] for name in self._memory_names}, state

    def _step(
        self, previous_ids: Array, memory: dict[str, Array], state: dict[str, Array]
    ) -> dict[str, Array]:
        outputs = self._decoder.run(None, {"previous_ids": previous_ids, **memory, **state})
        return dict(zip(self._decoder_outputs, outputs, strict=True))

    def _search_settings(self, how: Mapping[str, Any]) -> SearchSettings:
        vocabulary = self.target_vocabulary
        return SearchSettings(
            beam_size=how["beam_size"],
            min_length=how["min_length"],
            max_length=how["max_length"],
            length_penalty=how["length_penalty"],
            length_alpha=how["length_alpha"],
            coverage_penalty=how["coverage_penalty"],
            coverage_beta=how["coverage_beta"],
            block_ngrams=how["block_ngrams"],
            block_exceptions=tuple(
                vocabulary.id(word) for word in how["block_exceptions"] if word in vocabulary
            ),
            n_best=how.get("n_best", 1),
            groups=how.get("groups", 1),
            diversity=how.get("diversity", 0.0),
            stop_early=how.get("stop_early", True),
        )

    @cached_property
    def _listed(self) -> Array:
        """True at the words that a training summary has, (V,)."""
        vocabulary = self.target_vocabulary
        counts = [vocabulary.summary_count(id_) for id_ in range(len(vocabulary))]
        listed = np.array(counts) > 0
        listed[: len(SPECIAL_TOKENS)] = True
        return listed


def _session(path: Path, threads: int) -> InferenceSession:
    try:
        from onnxruntime import InferenceSession, SessionOptions
    except ImportError as error:
        raise PrecisError(
            "exported models need onnxruntime: pip install 'precis[onnx]', or onnxruntime alone"
        ) from error
    options = SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a kind of its own for each thing that may be wrong
        raise PrecisError(f"{path} cannot be run by onnxruntime: {error}; export the model again") from error
