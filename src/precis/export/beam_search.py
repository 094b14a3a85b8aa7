"""`precis.decoding.beam_search` for one document in numpy: the same rules, step by step.

A test runs both side by side. Here a document has its own search, and only the model's steps are made together: with
few rows numpy costs a fraction of what tensors do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precis.decoding.hypothesis import Hypothesis
from precis.errors import PrecisError
from precis.text.vocabulary import BOS_ID, EOS_ID, PAD_ID, UNK_ID

COVERAGE_FLOOR = 1e-10  # as in precis.decoding.penalties
NEVER_WRITTEN = (PAD_ID, UNK_ID, BOS_ID)

Array = NDArray[Any]


@dataclass(frozen=True)
class SearchSettings:
    """How to search; see `precis.decoding.beam_search.BeamSettings` and `precis.decoding.penalties`.

    Attributes:
        block_ngrams: no n-gram of so many words twice; 0 blocks nothing.
        block_exceptions: ids of words whose n-grams may come again.
    """

    beam_size: int
    min_length: int
    max_length: int
    length_penalty: str
    length_alpha: float
    coverage_penalty: str
    coverage_beta: float
    block_ngrams: int
    block_exceptions: tuple[int, ...] = ()
    n_best: int = 1
    groups: int = 1
    diversity: float = 0.0
    stop_early: bool = True

    def __post_init__(self) -> None:
        if self.min_length > self.max_length:
            raise PrecisError(f"min_length {self.min_length} must be from 0 to max_length, {self.max_length}")
        most = self.beam_size if self.stop_early else 2 * self.beam_size
        if self.n_best > most:
            raise PrecisError(
                f"n_best {self.n_best} must be from 1 to {most}, with beam_size {self.beam_size}"
            )
        if self.beam_size % self.groups:
            raise PrecisError(f"groups {self.groups} must divide beam_size, {self.beam_size}")

    @property
    def uses_coverage(self) -> bool:
        """Whether attention has to be added up."""
        return self.coverage_penalty != "none" and self.coverage_beta > 0

    @property
    def kept(self) -> int:
        """Ended hypotheses that are kept of each group."""
        of_group = self.beam_size // self.groups
        return of_group if self.n_best <= self.beam_size else 2 * of_group

    def length_divisor(self, num_steps: int) -> float:
        """What log P of a hypothesis of so many steps, the end included, is divided by."""
        match self.length_penalty:
            case "none":
                return 1.0
            case "average":
                return float(num_steps)
            case _:
                return float(((5 + num_steps) / 6) ** self.length_alpha)

    def coverage_score(self, coverage: Array) -> Array:
        """What coverage (K, S) adds to the scores, (K,)."""
        if self.coverage_penalty == "wu":
            cost = -np.log(np.clip(coverage, COVERAGE_FLOOR, 1.0))
        else:
            cost = np.maximum(coverage, 1.0) - 1.0
        score: Array = -self.coverage_beta * cost.sum(-1)
        return score

    def coverage_bound(self, coverage: Array) -> Array:
        """The most that coverage can still add."""
        return np.zeros(len(coverage)) if self.coverage_penalty == "wu" else self.coverage_score(coverage)


@dataclass(frozen=True)
class _Ended:
    score: float
    log_prob: float
    num_words: int
    beam: int


@dataclass(frozen=True)
class _Trace:
    """What one step chose, and what ending in it would have been: arrays over beams."""

    ids: Array
    parents: Array
    log_probs: Array
    generated: Array
    copied: Array
    end: Array  # (K, 3): log-probability, generated and copied mass
    attention: Array | None
    p_gen: Array | None


class DocumentSearch:
    """The search of one document.

    Args:
        settings: how to search.
        extended_ids: of the document's words, (S,).
        vocabulary_size: V; ids from V on are source OOVs.
        banned_ids: extended ids that the summary must not contain.
        allowed: True at vocabulary words that may be written, (V,); None: all.
        copies, attends, generates: what the model can do.

    Attributes:
        previous_ids: target-vocabulary ids of the last words, (K,); (1,) before the first step.
        parents: the beams that they continue, (K,).
        done: whether nothing can change the result any more.
    """

    def __init__(
        self,
        settings: SearchSettings,
        extended_ids: Sequence[int],
        *,
        vocabulary_size: int,
        banned_ids: Sequence[int],
        allowed: Array | None,
        copies: bool,
        attends: bool,
    ) -> None:
        if settings.uses_coverage and not attends:
            raise PrecisError(
                f"the coverage penalty {settings.coverage_penalty!r} needs a model with attention, and this one has "
                "none: set the coverage penalty to none"
            )
        beams = settings.beam_size
        self._settings = settings
        self._size = vocabulary_size
        self._copies = copies
        self._num_source_words = len(extended_ids)
        # the end, and each distinct word of a document that can be copied, has a column
        words = np.concatenate([[EOS_ID], np.asarray(extended_ids if copies else [], dtype=np.int64)])
        self._columns, places = np.unique(words, return_inverse=True)
        self._end_column, self._column_of_position = places[0], places[1:]
        self._outside = self._columns >= vocabulary_size
        self._vocab_columns = np.where(self._outside, PAD_ID, self._columns)
        banned = np.asarray(banned_ids, dtype=np.int64)
        self._column_banned = np.isin(self._columns, [*NEVER_WRITTEN, *banned_ids])
        self._no_candidate = np.zeros(vocabulary_size, dtype=bool)
        self._no_candidate[list(NEVER_WRITTEN)] = True
        self._no_candidate[self._vocab_columns] = True
        self._no_candidate[banned[banned < vocabulary_size]] = True
        self._num_banned = len(banned)
        # the vocabulary's words that may be written, rising; None: all
        self._listed: Array | None = None
        if allowed is not None:
            in_vocabulary = np.asarray(extended_ids, dtype=np.int64)
            allowed = allowed.copy()
            allowed[in_vocabulary[in_vocabulary < vocabulary_size]] = True  # those of the document always
            self._listed = np.flatnonzero(allowed)
            # from here on a word of the vocabulary is its place among them
            self._vocab_columns = np.searchsorted(self._listed, self._vocab_columns)
            self._no_candidate = self._no_candidate[self._listed]
        self._log_probs = np.full(beams, -np.inf)
        self._log_probs[:: beams // settings.groups] = 0.0  # all beams of a group begin equal
        self._closed = np.zeros(settings.groups, dtype=bool)
        self._history = np.zeros((beams, 0), dtype=np.int64)
        self._coverage = np.zeros((beams, self._num_source_words), dtype=np.float32)
        self._pools: list[list[_Ended]] = [[] for _ in range(settings.groups)]
        self._num_ended = [0] * settings.groups
        self._trace: list[_Trace] = []
        self.previous_ids: Array = np.array([BOS_ID])
        self.parents: Array = np.zeros(1, dtype=np.int64)
        self.done = False

    def step(self, log_probs: Array | None, attention: Array | None, p_gen_logit: Array | None) -> None:
        """Take in what the decoder says, end what ends, and choose the next words.

        Args:
            log_probs: log P_vocab, (K, V), one row before the first word; None: only the end is generated.
            attention: over the document's words, (K, S), or None.
            p_gen_logit: (K,), or None.
        """
        settings, beams = self._settings, self._settings.beam_size
        num_words = len(self._trace)
        num_rows = len(self.previous_ids)
        if log_probs is not None and self._listed is not None:
            log_probs = log_probs[:, self._listed]
            log_probs -= _log_sum_exp(log_probs)
        generated, copied, total, offset, p_gen = self._next_words(
            log_probs, attention, p_gen_logit, num_rows
        )
        at_end = self._end_column
        end = np.stack([total[:, at_end], generated[:, at_end], copied[:, at_end]], axis=1)
        total[:, at_end] = -np.inf
        if num_words < settings.min_length:
            end[:, 0] = -np.inf
        total[:, self._column_banned] = -np.inf
        repeated = self._completions()
        ids, word_log_probs = self._candidates(log_probs, offset, num_rows, repeated)
        if repeated is not None:
            total[(self._columns[None, :, None] == repeated[:, None, :]).any(2)] = -np.inf
        all_ids = np.concatenate([ids, np.broadcast_to(self._columns, total.shape)], axis=1)
        all_log_probs = np.concatenate([word_log_probs, total], axis=1)
        all_generated = np.concatenate([word_log_probs, generated], axis=1)
        all_copied = np.concatenate([np.full_like(word_log_probs, -np.inf), copied], axis=1)
        if num_rows < beams:  # one beam took the step for all
            all_ids, all_log_probs, all_generated, all_copied, end = (
                np.repeat(part, beams, axis=0)
                for part in (all_ids, all_log_probs, all_generated, all_copied, end)
            )
            attention = None if attention is None else np.repeat(attention, beams, axis=0)
            p_gen = None if p_gen is None else np.repeat(p_gen, beams)
        if attention is not None and settings.uses_coverage:
            self._coverage = self._coverage + attention
        is_last = num_words == settings.max_length
        rows, places = self._choose(all_ids, all_log_probs, end[:, 0], num_words, is_last=is_last)
        chosen = all_ids[rows, places]
        of_words = all_log_probs[rows, places]
        self._trace.append(
            _Trace(
                ids=chosen,
                parents=rows,
                log_probs=of_words,
                generated=all_generated[rows, places],
                copied=all_copied[rows, places],
                end=end,
                attention=attention,
                p_gen=p_gen,
            )
        )
        if is_last:
            self.done = True
            return
        self._log_probs = self._log_probs[rows] + of_words
        self.previous_ids = np.where(chosen >= self._size, UNK_ID, chosen)
        self.parents = rows if num_rows == beams else np.zeros_like(rows)
        self._coverage = self._coverage[rows]
        self._history = np.concatenate([self._history[rows], chosen[:, None]], axis=1)
        self._close()

    def hypotheses(self) -> list[Hypothesis]:
        """The best that ended, best first."""
        ended = [one for pool in self._pools for one in pool]
        ended.sort(key=lambda one: -one.score)  # stable: of equal ones the first
        return [self._read(one) for one in ended[: self._settings.n_best]]

    def _next_words(
        self, log_probs: Array | None, attention: Array | None, p_gen_logit: Array | None, num_rows: int
    ) -> tuple[Array, Array, Array, Array, Array | None]:
        """Log P(w) (See et al., 2017, eq. 9) of the columns: generated, copied, total (K, U); offset (K, 1); p_gen."""
        if log_probs is None:
            generated = np.where(self._columns == EOS_ID, np.float32(0), np.float32(-np.inf))
            generated = np.repeat(generated[None], num_rows, axis=0)
        else:
            generated = log_probs[:, self._vocab_columns]
            generated[:, self._outside] = -np.inf
        if not self._copies or attention is None or p_gen_logit is None:
            nothing = np.full_like(generated, -np.inf)
            return generated, nothing, generated.copy(), np.zeros((num_rows, 1), np.float32), None
        logit = p_gen_logit[:, None]
        log_p_gen, log_p_copy = -np.logaddexp(0, -logit), -np.logaddexp(0, logit)
        num_columns = len(self._columns)
        places = self._column_of_position + num_columns * np.arange(num_rows)[:, None]
        mass = np.bincount(places.ravel(), attention.ravel(), num_rows * num_columns)
        with np.errstate(divide="ignore"):  # what cannot be copied has no mass
            copied = np.log(mass.astype(np.float32)).reshape(num_rows, num_columns) + log_p_copy
        generated = generated + log_p_gen
        total = np.logaddexp(generated, copied)
        return generated, copied, total, log_p_gen, np.exp(log_p_gen[:, 0])

    def _candidates(
        self, log_probs: Array | None, offset: Array, num_rows: int, repeated: Array | None
    ) -> tuple[Array, Array]:
        """The best words that have no column, and their log-probabilities, (K, N): enough of them to choose from."""
        if log_probs is None:
            return np.zeros((num_rows, 0), dtype=np.int64), np.zeros((num_rows, 0), dtype=np.float32)
        settings = self._settings
        count = settings.beam_size // settings.groups + len(NEVER_WRITTEN) + 1 + self._num_banned
        if settings.groups > 1 and settings.diversity:
            count += settings.beam_size
        if repeated is not None:
            count += int((repeated != PAD_ID).sum(1).max())
        places = top_places(log_probs, count)
        excluded = self._no_candidate[places]
        values = np.take_along_axis(log_probs, places, axis=1) + offset
        ids = places if self._listed is None else self._listed[places]
        if repeated is not None:
            excluded |= (ids[:, :, None] == repeated[:, None, :]).any(2)
        return ids, np.where(excluded, np.float32(-np.inf), values)

    def _completions(self) -> Array | None:
        """The words that would complete an n-gram that a hypothesis has already, (K, N), PAD_ID for none."""
        size, num_words = self._settings.block_ngrams, self._history.shape[1]
        if not size or num_words < size:
            return None
        ngrams = np.lib.stride_tricks.sliding_window_view(self._history, size, axis=1)
        last_words = self._history[:, num_words - size + 1 :]
        about_to_repeat = (ngrams[..., :-1] == last_words[:, None, :]).all(2)
        if self._settings.block_exceptions:
            about_to_repeat &= ~np.isin(ngrams, self._settings.block_exceptions).any(2)
        return np.where(about_to_repeat, ngrams[..., -1], PAD_ID)

    def _choose(
        self, ids: Array, log_probs: Array, end: Array, num_words: int, *, is_last: bool
    ) -> tuple[Array, Array]:
        """The next words of every group, one group after the other: beams and places; what ends goes into the pool."""
        settings = self._settings
        size = settings.beam_size // settings.groups
        rows: list[Array] = []
        places: list[Array] = []
        for group in range(settings.groups):
            slots = slice(group * size, (group + 1) * size)
            ranks = log_probs[slots]
            if settings.diversity and rows:
                chosen = ids[np.concatenate(rows), np.concatenate(places)]
                ranks = ranks - np.float32(settings.diversity) * (ids[slots][:, :, None] == chosen).sum(2)
            flat = (ranks + self._log_probs[slots][:, None]).ravel()
            best = top_places(flat[None], size)[0]
            rows.append(best // ids.shape[1] + slots.start)
            places.append(best % ids.shape[1])
            ranked = np.full(size, -np.inf) if is_last else flat[best]
            self._end(group, slots, self._log_probs[slots] + end[slots], ranked, num_words)
        return np.concatenate(rows), np.concatenate(places)

    def _end(self, group: int, slots: slice, log_probs: Array, ranked: Array, num_words: int) -> None:
        """Put the hypotheses that end here into the pool: an end must be among the best continuations."""
        if self._closed[group]:
            return
        settings, size = self._settings, len(log_probs)
        order = np.argsort(-log_probs, kind="stable")
        better_ends = np.empty(size, dtype=np.int64)
        better_ends[order] = np.arange(size)
        better_words = (ranked[None, :] > log_probs[:, None]).sum(1)
        ends = (better_words + better_ends < size) & (log_probs > -np.inf)
        if not ends.any():
            return
        scores = log_probs / settings.length_divisor(num_words + 1)
        if settings.uses_coverage:
            scores = scores + settings.coverage_score(self._coverage[slots])
        pool = self._pools[group]
        pool += [
            _Ended(float(scores[beam]), float(log_probs[beam]), num_words, slots.start + int(beam))
            for beam in np.flatnonzero(ends)
        ]
        pool.sort(key=lambda one: -one.score)
        del pool[settings.kept :]
        self._num_ended[group] += int(ends.sum())

    def _close(self) -> None:
        """Settle the groups in which enough hypotheses have ended, or that no open one can change."""
        settings = self._settings
        size = settings.beam_size // settings.groups
        attainable = self._log_probs / settings.length_divisor(settings.max_length + 1)
        if settings.uses_coverage:
            attainable = attainable + settings.coverage_bound(self._coverage)
        needed = min(settings.n_best, size) - 1
        for group, best in enumerate(attainable.reshape(settings.groups, size).max(1)):
            pool = self._pools[group]
            reached = pool[needed].score if len(pool) > needed else -np.inf
            self._closed[group] |= (
                self._num_ended[group] >= size or best == -np.inf or (settings.stop_early and reached >= best)
            )
        self.done = bool(self._closed.all())

    def _read(self, ended: _Ended) -> Hypothesis:
        """Walk back to the first word."""
        end = self._trace[ended.num_words]
        beam = ended.beam
        ids: list[int] = []
        values = [end.end[beam]]
        steps = [(end, beam)]
        slot = beam
        for step in reversed(self._trace[: ended.num_words]):
            ids.append(int(step.ids[slot]))
            values.append(np.array([step.log_probs[slot], step.generated[slot], step.copied[slot]]))
            slot = int(step.parents[slot])
            steps.append((step, slot))
        log_probs, generated, copied = np.array(values[::-1], dtype=np.float64).T
        steps.reverse()
        p_gen = [step.p_gen[beam] for step, beam in steps if step.p_gen is not None]
        attention = [step.attention[beam] for step, beam in steps if step.attention is not None]
        return Hypothesis(
            ids=np.array(ids[::-1], dtype=np.int64),
            score=ended.score,
            log_prob=ended.log_prob,
            log_probs=log_probs,
            generated=np.exp(generated),
            copied=np.exp(copied),
            p_gen=np.array(p_gen, dtype=np.float64) if p_gen else None,
            attention=np.stack(attention).astype(np.float32) if attention else None,
        )


def top_places(values: Array, count: int) -> Array:
    """The places of the `count` largest values of each row, largest first; of equal ones any."""
    if count >= values.shape[1]:
        places = np.argsort(-values, axis=1, kind="stable")
        return places
    places = np.argpartition(values, -count, axis=1)[:, -count:]
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def _log_sum_exp(values: Array) -> Array:
    largest = values.max(axis=1, keepdims=True)
    total: Array = largest + np.log(np.exp(values - largest).sum(axis=1, keepdims=True))
    return total
