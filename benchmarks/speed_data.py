"""Batches for the speed benchmarks: a real corpus of pairs, or lengths and words drawn like one."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

PAD, UNK, BOS, EOS = range(4)
Pair = tuple[list[str], list[str]]
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Sizes:
    """What all sides of a comparison share."""

    vocabulary: int
    embedding: int
    hidden: int  # of one direction
    source_max: int
    target_max: int  # the end included
    batch: int
    pool: int  # rows that are sorted by length at a time, as OpenNMT-py's bucket_size


@dataclass(frozen=True)
class Workload:
    """The same for every side: words and rows, as text, in batches of rows of like length."""

    sizes: Sizes
    words: list[str]  # ids from 4
    batches: list[list[Pair]]

    def save(self, path: Path) -> None:
        contents = {"sizes": asdict(self.sizes), "words": self.words, "batches": self.batches}
        path.write_text(json.dumps(contents), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Workload:
        contents = json.loads(path.read_text(encoding="utf-8"))
        return cls(Sizes(**contents["sizes"]), contents["words"], contents["batches"])

    def num_tokens(self) -> list[int]:
        """Source and target tokens of each batch, an end of each target, no padding."""
        return [sum(len(source) + len(target) + 1 for source, target in batch) for batch in self.batches]


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a JSON Lines file with `document` and `summary`."""
    pairs = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            source, target = _WORD.findall(row["document"].lower()), _WORD.findall(row["summary"].lower())
            if source and target:
                pairs.append((source, target))
    return pairs


def synthetic_pairs(number: int, seed: int) -> list[Pair]:
    """Pairs with the lengths of e-mails and their subjects, words by Zipf's law, half of each target copied."""
    generator = random.Random(seed)
    words = [f"w{rank}" for rank in range(60_000)]
    totals = []
    total = 0.0
    for rank in range(len(words)):
        total += 1 / (rank + 10)
        totals.append(total)
    pairs = []
    for _ in range(number):
        source = generator.choices(
            words, cum_weights=totals, k=max(5, int(generator.lognormvariate(4.5, 0.9)))
        )
        length = max(1, min(40, int(generator.lognormvariate(1.5, 0.6))))
        fresh = generator.choices(words, cum_weights=totals, k=length)
        target = [generator.choice(source) if generator.random() < 0.5 else word for word in fresh]
        pairs.append((source, target))
    return pairs


def make_workload(pairs: list[Pair], sizes: Sizes, num_batches: int, seed: int) -> Workload:
    """Cut the pairs, count the words, and pick batches."""
    pairs = [(source[: sizes.source_max], target[: sizes.target_max - 1]) for source, target in pairs]
    counts: Counter[str] = Counter()
    for source, target in pairs:
        counts.update(source)
        counts.update(target)
    words = [word for word, _ in counts.most_common(sizes.vocabulary - 4)]
    generator = random.Random(seed)
    generator.shuffle(pairs)
    batches = []
    for start in range(0, len(pairs), sizes.pool):
        pool = sorted(pairs[start : start + sizes.pool], key=lambda pair: (len(pair[0]), len(pair[1])))
        last = len(pool) - sizes.batch
        batches += [pool[first : first + sizes.batch] for first in range(0, last + 1, sizes.batch)]
    generator.shuffle(batches)
    return Workload(sizes, words, batches[:num_batches])


def tensors(workload: Workload) -> list[dict[str, torch.Tensor]]:
    """Each batch as source_ids, extended_ids (B, S), lengths (B,), target_inputs, extended target_ids (B, T)."""
    ids = {word: number for number, word in enumerate(workload.words, start=4)}
    size = workload.sizes.vocabulary
    return [
        _collate([_encode(source, target, ids, size) for source, target in batch])
        for batch in workload.batches
    ]


def _encode(
    source: list[str], target: list[str], ids: dict[str, int], size: int
) -> tuple[list[int], list[int], list[int], list[int]]:
    oovs: dict[str, int] = {}
    extended = [ids[word] if word in ids else oovs.setdefault(word, size + len(oovs)) for word in source]
    target_ids = [ids.get(word, oovs.get(word, UNK)) for word in target]
    plain = [UNK if number >= size else number for number in extended]
    inputs = [UNK if number >= size else number for number in target_ids]
    return plain, extended, [BOS, *inputs], [*target_ids, EOS]


def _collate(rows: list[tuple[list[int], ...]]) -> dict[str, torch.Tensor]:
    def padded(column: int) -> torch.Tensor:
        longest = max(len(row[column]) for row in rows)
        return torch.tensor([row[column] + [PAD] * (longest - len(row[column])) for row in rows])

    return {
        "source_ids": padded(0),
        "extended_ids": padded(1),
        "lengths": torch.tensor([len(row[0]) for row in rows]),
        "target_inputs": padded(2),
        "target_ids": padded(3),
    }
