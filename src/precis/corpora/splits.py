"""Which split a row belongs to, and which rows are taken when not all are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precis.corpora.article import Article, stable_hash

_HASHES = 2**64


@dataclass(frozen=True)
class Shares:
    """How much of an unsplit corpus is held out."""

    validation: float
    test: float


def split_by_hash(group: str, shares: Shares) -> str:
    """The split of a group: the same one whatever other rows there are."""
    position = stable_hash(group, "split") / _HASHES
    if position < shares.test:
        return "test"
    return "validation" if position < shares.test + shares.validation else "train"


def group_of(article: Article) -> str:
    """What must not fall into two splits; without a group, the document, so that its copies stay together."""
    if article.group is not None:
        return article.group
    return " ".join((article.document or "").lower().split()) or (article.id or "")


def split_by_time(times: NDArray[np.float64], shares: Shares) -> tuple[float, float]:
    """The first moments of validation and of test: the newest rows are the test set.

    Rows of one moment stay together, so that the shares are met only roughly.
    """
    ordered = np.sort(times)
    test = int(len(ordered) * (1 - shares.test))
    validation = int(len(ordered) * (1 - shares.test - shares.validation))
    last = np.append(ordered, np.inf)
    return float(last[validation]), float(last[test])


def pick(hashes: NDArray[np.uint64], max_rows: int | None) -> int:
    """The highest hash to take, so that `max_rows` rows are; a larger number takes these and more."""
    if max_rows is None or len(hashes) <= max_rows:
        return _HASHES - 1
    return int(np.partition(hashes, max_rows - 1)[max_rows - 1])
