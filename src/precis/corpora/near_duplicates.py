"""Texts that differ in a few words, by MinHash and locality-sensitive hashing.

The similarity is Jaccard's, of the sets of word n-grams (shingles); `rensa` computes the MinHash digests. Two
texts are compared only if one band of their digests is equal, and are similar if enough of all hashes are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from precis.execution.engine import Engine

_MOST_COMPARED = (
    50  # texts of one band that a text is compared with: a band of a thousand copies stays linear
)


@dataclass(frozen=True)
class NearDuplicateSearch:
    """How similar is similar, and how carefully it is looked for."""

    shingle_words: int
    min_similarity: float
    permutations: int
    bands: int
    seed: int

    def digests(self, texts: Sequence[Sequence[str]]) -> NDArray[np.uint32]:
        """A row of hashes for each text, given as `key_words`; a text shorter than a shingle is one."""
        shingles = [list(self._shingles(words)) for words in texts]
        matrix = RMinHash.digest_matrix_from_token_sets(shingles, self.permutations, self.seed)
        return np.array(matrix.to_rows(), dtype=np.uint32).reshape(len(texts), self.permutations)

    def matrix(self, data: bytes) -> NDArray[np.uint32]:
        """Rows of hashes out of their bytes."""
        return np.frombuffer(data, dtype=np.uint32).reshape(-1, self.permutations)

    def _shingles(self, words: Sequence[str]) -> Iterator[str]:
        if len(words) <= self.shingle_words:
            return iter([" ".join(words)])
        return map(" ".join, zip(*(words[start:] for start in range(self.shingle_words)), strict=False))

    def band_keys(self, digests: NDArray[np.uint32]) -> NDArray[np.uint64]:
        """One number for each band of each row: equal where the band's hashes are."""
        bands = digests.reshape(len(digests), self.bands, -1)
        keys = np.zeros(bands.shape[:2], dtype=np.uint64)
        for hashes in np.moveaxis(bands, 2, 0):
            keys = (keys ^ hashes) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(29)
        return keys

    def earlier_copies(
        self, digests: NDArray[np.uint32], keys: NDArray[np.uint64], engine: Engine
    ) -> NDArray[np.int64]:
        """For each row the first earlier row that is similar to it, -1 where none is.

        Of several similar texts the first one stays. The cost grows with the rows, not with their pairs: bands
        are sorted, and a row is compared with few others of its band. Each band is looked at by itself.

        Args:
            digests: a row of hashes for each text; only those that have a band in common are looked at, so that
                they may stay on disk.
            keys: their `band_keys`.
            engine: where the bands are looked at.
        """
        num_rows = len(keys)
        first = np.full(num_rows, num_rows, dtype=np.int64)
        for earlier, later in engine.map_items(self.similar_in_band, digests, keys.T):
            np.minimum.at(first, later, earlier)
        first[first == num_rows] = -1
        # a copy of a copy is one of the first, too
        while True:
            further = np.where(first >= 0, first[first], -1)
            if not (further >= 0).any():
                return first
            first = np.where(further >= 0, further, first)

    def similar_in_band(
        self, digests: NDArray[np.uint32], band: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of similar rows, the earlier and the later ones, among those whose key of one band is equal."""
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        for distance in range(1, min(_MOST_COMPARED, len(band) - 1) + 1):
            same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
            if not len(same):
                break
            earlier, later = order[same], order[same + distance]
            similar = np.concatenate(list(self._similar(digests, earlier, later)))
            found.append((earlier[similar], later[similar]))
        if not found:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])

    def _similar(
        self, digests: NDArray[np.uint32], earlier: NDArray[np.int64], later: NDArray[np.int64]
    ) -> Iterator[NDArray[np.bool_]]:
        for start in range(0, len(earlier), 10_000):
            some = slice(start, start + 10_000)
            equal = digests[earlier[some]] == digests[later[some]]
            yield equal.mean(axis=1) >= self.min_similarity
