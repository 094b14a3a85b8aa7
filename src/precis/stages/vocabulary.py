"""Count the words of the training split, cut the vocabulary, and report what can be written with it."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from precis.corpora.article import SPLITS
from precis.corpora.ceilings import ReachCounter, in_words
from precis.corpora.numbered_words import COLUMNS, Lexicon, NumberedSplit, SplitRows, split_rows
from precis.corpora.profile import build_profile
from precis.corpora.word_counts import WordCounts
from precis.errors import PrecisError
from precis.execution.engine import Engine
from precis.execution.open_engine import open_engine
from precis.files import atomic_directory, atomic_path, remove_leftovers
from precis.params import load_params
from precis.stages.entry import run_stage
from precis.text.vocabulary import SPECIAL_TOKENS, Vocabulary

log = logging.getLogger(__name__)

PREPARED, VOCABULARY, REPORT = Path("data/prepared"), Path("data/vocabulary"), Path("reports/vocabulary.json")
WORK = Path(".work/vocabulary")
SIZES = (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000)


@dataclass(frozen=True)
class Cut:
    """Where the vocabularies end; sizes count the special tokens."""

    shared: bool
    source_size: int
    target_size: int
    min_count: int


def build_vocabularies(
    prepared: Path,
    folder: Path,
    report: Path,
    *,
    cut: Cut,
    lowercase: bool,
    source_max_length: int,
    target_max_length: int,
    max_truncated_share: float,
    engine: Engine,
) -> dict[str, Any]:
    """Write the vocabularies of the training split, and what they allow on every split.

    Args:
        prepared: the folder of the splits as text.
        folder: the folder to write: shared.txt, or source.txt and target.txt, and profile.json.
        report: what can be written with them, as JSON.
        cut: where they end.
        lowercase: whether words are lower-cased.
        source_max_length: words of a document that the models read.
        target_max_length: words of a summary that they learn from, and its end.
        max_truncated_share: of the words of training summaries, how many may be cut off.
        engine: where texts are split into words; the files are the same.

    Returns:
        The report.
    """
    remove_leftovers(folder)
    remove_leftovers(report)
    with ExitStack() as stack:
        lexicon = Lexicon(lowercase)
        splits = {
            split: NumberedSplit(
                _split_rows(prepared / f"{split}.parquet", engine),
                lexicon,
                stack.enter_context(_scratch()),
            )
            for split in SPLITS
        }
        return _build(
            splits,
            lexicon,
            folder,
            report,
            cut=cut,
            lowercase=lowercase,
            source_max_length=source_max_length,
            target_max_length=target_max_length,
            max_truncated_share=max_truncated_share,
        )


def _build(
    splits: Mapping[str, NumberedSplit],
    lexicon: Lexicon,
    folder: Path,
    report: Path,
    *,
    cut: Cut,
    lowercase: bool,
    source_max_length: int,
    target_max_length: int,
    max_truncated_share: float,
) -> dict[str, Any]:
    words = WordCounts(lexicon, splits["train"])
    with atomic_directory(folder) as temporary:
        if cut.shared:
            source = target = words.shared(cut.target_size, cut.min_count)
            target.save(temporary / "shared.txt")
        else:
            source = words.of_documents(cut.source_size, cut.min_count)
            target = words.of_summaries(cut.target_size, cut.min_count)
            source.save(temporary / "source.txt")
            target.save(temporary / "target.txt")
        ranked = words.ranked(cut.shared, cut.min_count)
        measured = _measure(splits, lexicon, source, target, ranked, source_max_length, target_max_length)
        copied_only = measured["splits"]["train"]["copied_only"]
        profile = build_profile(splits["train"], lexicon, source, lowercase, copied_only)
        profile.save(temporary / "profile.json")
        with atomic_path(report) as path:
            path.write_text(json.dumps(measured, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        truncated = measured["splits"]["train"]["target_truncated_share"]
        if truncated > max_truncated_share:
            raise PrecisError(
                f"encode.target_max_length: {target_max_length} cuts off {truncated:.1%} of the words of the "
                f"training summaries, at most {max_truncated_share:.1%} may be (encode.max_truncated_share); "
                f"{measured['splits']['train']['target_length_p99'] + 1} would cut one summary in a hundred"
            )
    log.info("data/vocabulary: %d source words, %d target words", len(source), len(target))
    log.info("%s", measured["in_words"])
    return measured


def _split_rows(path: Path, engine: Engine) -> Iterator[SplitRows]:
    if not path.is_file():
        raise PrecisError(f"{path} not found: run `dvc repro prepare` first")
    return engine.map_rows(path, split_rows, columns=COLUMNS)


def _scratch() -> IO[bytes]:
    WORK.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=WORK)


def _measure(
    splits: Mapping[str, NumberedSplit],
    lexicon: Lexicon,
    source: Vocabulary,
    target: Vocabulary,
    ranked: NDArray[np.int64],
    source_max_length: int,
    target_max_length: int,
) -> dict[str, Any]:
    """What can be written: `ranked` are the words by number, in the order in which vocabularies are filled."""
    word_of_form = lexicon.word_of_form()
    ranks = np.full(lexicon.num_words, len(ranked), dtype=np.int64)
    ranks[ranked] = np.arange(len(ranked))
    in_source = np.fromiter((word in source for word in lexicon.words), bool, lexicon.num_words)
    largest = len(ranked) + len(SPECIAL_TOKENS)
    sizes = sorted({*(size for size in SIZES if size < largest), len(target), largest})
    found = {}
    sentences = []
    for split in SPLITS:
        counter = ReachCounter(len(ranked))
        source_words, source_oovs, source_all, target_words, target_cut = 0, 0, 0, 0, 0
        lengths: Counter[int] = Counter()
        for some in splits[split]:
            read_rows, read_forms = some.documents.beginnings(source_max_length)
            read = word_of_form[read_forms]
            source_all += len(some.documents.numbers)
            source_words += len(read)
            source_oovs += int(np.count_nonzero(~in_source[read]))
            summary_lengths = some.summaries.lengths
            lengths.update(summary_lengths.tolist())
            target_words += int(summary_lengths.sum())
            target_cut += int(np.maximum(0, summary_lengths - (target_max_length - 1)).sum())
            summary = word_of_form[some.summaries.numbers]
            copied = np.isin(
                some.summaries.rows * lexicon.num_words + summary, read_rows * lexicon.num_words + read
            )
            counter.add(ranks[summary], copied)
        chosen = counter.reach(len(target) - len(SPECIAL_TOKENS), len(target))
        sentences.append(in_words(split, chosen))
        found[split] = {
            "source_oov_rate": _share(source_oovs, source_words),
            "source_truncated_share": _share(source_all - source_words, source_all),
            "target_oov_rate": round(1 - chosen.generated, 6),
            "target_truncated_share": _share(target_cut, target_words),
            "target_length_p99": _percentile(lengths, 0.99),
            "generated": round(chosen.generated, 6),
            "copied_only": round(chosen.copied_only, 6),
            "neither": round(chosen.neither, 6),
            "copyable_share_of_oovs": round(chosen.copyable_share_of_oovs, 6),
            "by_size": [
                {name: round(value, 6) for name, value in asdict(reach).items()}
                for reach in (counter.reach(size - len(SPECIAL_TOKENS), size) for size in sizes)
            ],
        }
    return {
        "source_vocabulary_size": len(source),
        "target_vocabulary_size": len(target),
        "in_words": sentences[SPLITS.index("test")],
        "splits": found,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0


def _percentile(lengths: Mapping[int, int], share: float) -> int:
    """The smallest length that so many of the texts do not exceed."""
    needed = share * sum(lengths.values())
    reached = 0
    for length in sorted(lengths):
        reached += lengths[length]
        if reached >= needed:
            return length
    return 0


def main() -> None:
    """Run the stage with params.yaml."""
    params = load_params()
    with open_engine(**params.execution.model_dump()) as engine:
        build_vocabularies(
            PREPARED,
            VOCABULARY,
            REPORT,
            cut=Cut(**params.vocabulary.model_dump()),
            lowercase=params.text.lowercase,
            source_max_length=params.encode.source_max_length,
            target_max_length=params.encode.target_max_length,
            max_truncated_share=params.encode.max_truncated_share,
            engine=engine,
        )


if __name__ == "__main__":
    run_stage(main)
