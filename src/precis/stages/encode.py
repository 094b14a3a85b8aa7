"""Turn words into ids, and list the source OOVs of each document."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from precis.batches.encoded import SCHEMA, write_encoded
from precis.corpora.article import SPLITS
from precis.corpora.gap_sentences import MIN_WORDS, GapSentences
from precis.errors import PrecisError
from precis.execution.engine import Engine
from precis.execution.open_engine import open_engine
from precis.files import atomic_directory, remove_leftovers
from precis.params import load_params
from precis.stages.entry import run_stage
from precis.text.source_oovs import extend_source, extend_target
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import UNK_ID, Vocabulary

log = logging.getLogger(__name__)

PREPARED, VOCABULARY, ENCODED = Path("data/prepared"), Path("data/vocabulary"), Path("data/encoded")
PRETRAINING = "pretraining"


def encode(
    prepared: Path,
    encoded: Path,
    *,
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    tokenizer: Tokenizer,
    source_max_length: int,
    target_max_length: int,
    gap_sentences: int,
    engine: Engine,
) -> dict[str, int]:
    """Write an Arrow file for each split and one for pre-training, all or none; returns how many rows each has.

    Args:
        prepared: the folder of the splits as text.
        encoded: the folder to write.
        source_vocabulary: ids of source words; the same object as the target's when they are shared.
        target_vocabulary: ids of target words, from which source OOVs are counted on.
        tokenizer: of source and target.
        source_max_length: words of a document that are kept.
        target_max_length: words of a summary that are kept, and the end of it.
        gap_sentences: of each training document, pairs for pre-training; 0 for a file without rows.
        engine: where rows are encoded; the files are the same.

    Raises:
        PrecisError: a split is missing.
    """
    remove_leftovers(encoded)
    encoding = Encoding(source_vocabulary, target_vocabulary, tokenizer, source_max_length, target_max_length)
    counts = {}
    with atomic_directory(encoded) as folder:
        for split in SPLITS:
            path = prepared / f"{split}.parquet"
            if not path.is_file():
                raise PrecisError(f"{path} not found: run `dvc repro prepare` first")
            batches = engine.map_rows(path, encoding, columns=["id", "document", "summary"])
            counts[split] = write_encoded(batches, folder / f"{split}.arrow")
        pairs: Iterable[pa.RecordBatch] = ()
        if gap_sentences:
            gaps = GapSentences(gap_sentences, source_max_length, target_max_length - 1)
            pairs = engine.map_rows(
                prepared / "train.parquet", GapEncoding(gaps, encoding), columns=["id", "document"]
            )
        counts[PRETRAINING] = write_encoded(pairs, folder / f"{PRETRAINING}.arrow")
    log.info("data/encoded: %s", ", ".join(f"{number:,} {split}" for split, number in counts.items()))
    if gap_sentences and not counts[PRETRAINING]:
        log.warning(
            "no training document has a sentence to be left out (three sentences at least, one of them of %d to %d "
            "words): there will be no pre-training",
            MIN_WORDS,
            2 * (target_max_length - 1),
        )
    return counts


@dataclass(frozen=True)
class Encoding:
    """A function of a batch of prepared rows alone.

    Attributes:
        source_vocabulary: ids of source words; equal to the target's when they are shared.
        target_vocabulary: ids of target words, from which source OOVs are counted on.
        tokenizer: of source and target.
        source_max_length: words of a document that are kept.
        target_max_length: words of a summary that are kept, and the end of it.
    """

    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    tokenizer: Tokenizer
    source_max_length: int
    target_max_length: int

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give rows of batches.encoded's schema, in their order."""
        target_vocabulary = self.target_vocabulary
        shared = self.source_vocabulary is target_vocabulary
        source, extended, oovs, target = _Lists(), _Lists(), _Lists(), _Lists()
        rows = zip(batch.column("document").to_pylist(), batch.column("summary").to_pylist(), strict=True)
        for document, summary in rows:
            words = self.tokenizer.words(document, self.source_max_length)
            extended_ids, source_oovs = extend_source(words, target_vocabulary)
            extended.add(extended_ids)
            oovs.add(source_oovs)
            if not shared:
                source.add(self.source_vocabulary.ids(words))
            target_words = self.tokenizer.words(summary, self.target_max_length - 1)
            target.add(extend_target(target_words, target_vocabulary, source_oovs))
        source_ids = extended.ids(len(target_vocabulary)) if shared else source.ids()
        # built anew: what a reader leaves behind the last id differs, and the file's bytes would
        ids = pa.array(batch.column("id").to_pylist(), pa.string())
        arrays = [ids, source_ids, extended.ids(), oovs.texts(), target.ids()]
        return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


@dataclass(frozen=True)
class GapEncoding:
    """The pairs that documents make by themselves, encoded."""

    gaps: GapSentences
    encoding: Encoding

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give rows of batches.encoded's schema: for each document none, one or several."""
        return self.encoding(self.gaps(batch))


class _Lists:
    """A column of lists, flat with offsets: several times as fast as one Python list for each row."""

    def __init__(self) -> None:
        self._values: list[int] | list[str] = []
        self._offsets = [0]

    def add(self, values: list[int] | list[str]) -> None:
        self._values.extend(values)  # type: ignore[arg-type]
        self._offsets.append(len(self._values))

    def ids(self, end: int | None = None) -> pa.Array:
        """As lists of numbers; those from `end` on become UNK_ID."""
        values = np.array(self._values, dtype=np.int32)
        if end is not None:
            values[values >= end] = UNK_ID
        return pa.ListArray.from_arrays(self._offset_array(), pa.array(values))

    def texts(self) -> pa.Array:
        return pa.ListArray.from_arrays(self._offset_array(), pa.array(self._values, pa.string()))

    def _offset_array(self) -> pa.Array:
        return pa.array(np.array(self._offsets, dtype=np.int32))


def load_vocabularies(folder: Path, shared: bool) -> tuple[Vocabulary, Vocabulary]:
    """The source's and the target's vocabulary: one object when they are shared."""
    if shared:
        vocabulary = Vocabulary.load(folder / "shared.txt")
        return vocabulary, vocabulary
    return Vocabulary.load(folder / "source.txt"), Vocabulary.load(folder / "target.txt")


def main() -> None:
    """Run the stage with params.yaml."""
    params = load_params()
    source_vocabulary, target_vocabulary = load_vocabularies(VOCABULARY, params.vocabulary.shared)
    with open_engine(**params.execution.model_dump()) as engine:
        encode(
            PREPARED,
            ENCODED,
            source_vocabulary=source_vocabulary,
            target_vocabulary=target_vocabulary,
            tokenizer=Tokenizer(params.text.lowercase),
            source_max_length=params.encode.source_max_length,
            target_max_length=params.encode.target_max_length,
            gap_sentences=params.pretraining.sentences if params.pretraining.epochs else 0,
            engine=engine,
        )


if __name__ == "__main__":
    run_stage(main)
