"""Count the words of the training split, cut the vocabulary, and report what can be written with it."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from precis.corpora.article import SPLITS, read_batches
from precis.corpora.ceilings import ReachCounter, in_words
from precis.corpora.profile import build_profile
from precis.errors import PrecisError
from precis.files import atomic_directory, atomic_path, remove_leftovers
from precis.params import load_params
from precis.stages.entry import run_stage
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import SPECIAL_TOKENS, Vocabulary, fold_case

log = logging.getLogger(__name__)

PREPARED, VOCABULARY, REPORT = Path("data/prepared"), Path("data/vocabulary"), Path("reports/vocabulary.json")
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

    Returns:
        The report.
    """
    remove_leftovers(folder)
    remove_leftovers(report)
    source_counts, source_surfaces, target_counts, target_surfaces = _count(
        prepared / "train.parquet", lowercase
    )
    with atomic_directory(folder) as temporary:
        if cut.shared:
            counts = dict(Counter(source_counts) + Counter(target_counts))
            surfaces = source_surfaces | target_surfaces
            source = target = Vocabulary.build(
                counts, cut.target_size, cut.min_count, surfaces, target_counts
            )
            target.save(temporary / "shared.txt")
            target_counts = counts
        else:
            source = Vocabulary.build(source_counts, cut.source_size, cut.min_count, source_surfaces)
            target = Vocabulary.build(target_counts, cut.target_size, cut.min_count, target_surfaces)
            source.save(temporary / "source.txt")
            target.save(temporary / "target.txt")
        measured = _measure(
            prepared,
            source,
            target,
            Vocabulary.build(target_counts, len(target_counts) + len(SPECIAL_TOKENS), cut.min_count),
            Tokenizer(lowercase),
            source_max_length,
            target_max_length,
        )
        profile = build_profile(
            lambda: _documents(prepared / "train.parquet"),
            source,
            lowercase,
            measured["splits"]["train"]["copied_only"],
        )
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


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        raise PrecisError(f"{path} not found: run `dvc repro prepare` first")
    for batch in read_batches(path, ["document", "summary"]):
        yield from zip(batch.column("document").to_pylist(), batch.column("summary").to_pylist(), strict=True)


def _documents(path: Path) -> Iterator[tuple[str, str | None]]:
    for batch in read_batches(path, ["document", "group"]):
        yield from zip(batch.column("document").to_pylist(), batch.column("group").to_pylist(), strict=True)


def _count(
    path: Path, lowercase: bool
) -> tuple[dict[str, int], dict[str, str], dict[str, int], dict[str, str]]:
    as_written = Tokenizer(lowercase=False)
    source: Counter[str] = Counter()
    target: Counter[str] = Counter()
    for document, summary in _rows(path):
        source.update(as_written.words(document))
        target.update(as_written.words(summary))
    return (*fold_case(source, lowercase), *fold_case(target, lowercase))


def _measure(
    prepared: Path,
    source: Vocabulary,
    target: Vocabulary,
    ranked: Vocabulary,
    tokenizer: Tokenizer,
    source_max_length: int,
    target_max_length: int,
) -> dict[str, Any]:
    num_ranks = len(ranked) - len(SPECIAL_TOKENS)
    ranks = {ranked.word(rank + len(SPECIAL_TOKENS)): rank for rank in range(num_ranks)}
    sizes = sorted({*(size for size in SIZES if size < len(ranked)), len(target), len(ranked)})
    splits = {}
    sentences = []
    for split in SPLITS:
        counter = ReachCounter(ranks, num_ranks)
        source_words, source_oovs, source_cut, target_words, target_cut = 0, 0, 0, 0, 0
        lengths: Counter[int] = Counter()
        for document, summary in _rows(prepared / f"{split}.parquet"):
            document_tokens, summary_tokens = tokenizer.words(document), tokenizer.words(summary)
            read = document_tokens[:source_max_length]
            source_cut += len(document_tokens) - len(read)
            source_words += len(read)
            source_oovs += sum(word not in source for word in read)
            lengths[len(summary_tokens)] += 1
            target_words += len(summary_tokens)
            target_cut += max(0, len(summary_tokens) - (target_max_length - 1))
            counter.add(summary_tokens, read)
        chosen = counter.reach(len(target) - len(SPECIAL_TOKENS), len(target))
        sentences.append(in_words(split, chosen))
        splits[split] = {
            "source_oov_rate": _share(source_oovs, source_words),
            "source_truncated_share": _share(source_cut, source_words + source_cut),
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
        "splits": splits,
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
    build_vocabularies(
        PREPARED,
        VOCABULARY,
        REPORT,
        cut=Cut(**params.vocabulary.model_dump()),
        lowercase=params.text.lowercase,
        source_max_length=params.encode.source_max_length,
        target_max_length=params.encode.target_max_length,
        max_truncated_share=params.encode.max_truncated_share,
    )


if __name__ == "__main__":
    run_stage(main)
