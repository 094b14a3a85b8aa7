"""Beam search over documents x beams in one batch, in log space.

Nothing in the loop is a Python object of one word: back-pointers stay tensors, and the words are read out of
them at the end. What counts as a result:

- A hypothesis ends when the end is among the `beam_size` best continuations of its document (the end
  included); the open hypotheses then continue with the best words. With one beam this is the greedy choice.
- A document is done when `beam_size` of its hypotheses have ended, or when no open one can any longer reach
  the score of the `n_best`-th that has ended. The latter changes no result, it only saves steps.
- A summary has at most `max_length` words; after that many only the end may follow, with its own probability.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from precis.decoding.choice import Candidates, Choice, best_words, take_end
from precis.decoding.columns import Columns, NextWords, next_words, source_columns
from precis.decoding.hypotheses import Endings, TraceStep, read_hypotheses
from precis.decoding.hypothesis import Hypothesis
from precis.decoding.penalties import Penalties
from precis.decoding.repetition import NgramBlock
from precis.decoding.step import (
    Decoder,
    Memory,
    SpecialIds,
    State,
    fill_holes,
    keep_documents,
    select_beams,
    select_documents,
)
from precis.decoding.word_scores import WordScores, word_scores
from precis.errors import PrecisError

LEAVING_SHARE = 0.125  # finished documents leave the batch when they are this share of it


@dataclass(frozen=True)
class BeamSettings:
    """How far and how widely to search.

    Attributes:
        beam_size: hypotheses kept open per document, K; 1 is greedy.
        max_length: the most words of a summary, the end not counted.
        min_length: the fewest words.
        n_best: finished hypotheses to give per document, at most beam_size; without an early stop at most
            2 * beam_size, which are all that end.
        penalties: how finished hypotheses are ranked.
        ngram_block: n-grams that must not come twice.
        groups: beams are divided into this many groups that avoid each other's words (Vijayakumar et al., 2018).
        diversity: what choosing a word costs, in log-probability, for each time that an earlier group has just
            chosen it. It steers the search only: scores stay those of the model.
        stop_early: False searches on until beam_size hypotheses have ended; the results are the same.
    """

    beam_size: int
    max_length: int
    min_length: int = 0
    n_best: int = 1
    penalties: Penalties = field(default_factory=Penalties)
    ngram_block: NgramBlock = field(default_factory=NgramBlock)
    groups: int = 1
    diversity: float = 0.0
    stop_early: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.min_length <= self.max_length:
            raise PrecisError(f"min_length {self.min_length} must be from 0 to max_length, {self.max_length}")
        most = self.beam_size if self.stop_early else 2 * self.beam_size
        if not 1 <= self.n_best <= most:
            raise PrecisError(
                f"n_best {self.n_best} must be from 1 to {most}, with beam_size {self.beam_size}"
            )
        if self.groups < 1 or self.beam_size % self.groups:
            raise PrecisError(f"groups {self.groups} must divide beam_size, {self.beam_size}")

    @property
    def kept(self) -> int:
        """Ended hypotheses that are kept of each group."""
        of_group = self.beam_size // self.groups
        return of_group if self.n_best <= self.beam_size else 2 * of_group


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    memory: Memory,
    extended_ids: Tensor,
    settings: BeamSettings,
    special: SpecialIds,
    banned_ids: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Find the best summaries of each document.

    Args:
        decoder: gives the state and the steps.
        memory: what the encoder made of the documents, first dimension B.
        extended_ids: extended-vocabulary ids of the sources, (B, S), `special.pad` after their ends.
        settings: how to search.
        special: the ids that are no words.
        banned_ids: extended ids that a document's summary must not contain, (B, X), `special.pad` where
            a document has fewer.

    Returns:
        For each document at most `n_best` hypotheses, best first; fewer only where the model gives all others
        probability 0.
    """
    search = _Search.begin(decoder, memory, extended_ids, settings, special, banned_ids)
    for num_words in range(settings.max_length + 1):
        search.step(num_words)
        if search.all_done:
            break
        if num_words < settings.max_length:
            search.let_finished_documents_leave()
    return read_hypotheses(search.trace, search.endings(), special.eos)


@dataclass
class _Search:
    """The search of one batch. Rows are the documents still in it."""

    decoder: Decoder
    settings: BeamSettings
    special: SpecialIds
    memory: Memory
    state: State  # of one beam before the first step: the others would be its equals
    extended_ids: Tensor  # (rows, S)
    banned_ids: Tensor  # (rows, X)
    documents: Tensor  # (rows,): the number of each row's document in the batch
    previous_ids: Tensor  # (rows, K): target-vocabulary ids of the last words
    log_probs: Tensor  # (rows, K)
    closed: Tensor  # (rows, groups): groups whose result is settled
    history: Tensor  # (rows, K, words so far) when n-grams are blocked, else (rows, K, 0)
    coverage: Tensor | None  # (rows, K, S) when the penalties need it
    pool: Endings  # of the whole batch, (B, groups * kept of a group)
    num_ended: Tensor  # (B, groups)
    trace: list[TraceStep]
    owns_memory: bool = False  # whether it is a copy, whose rows may be overwritten
    columns: Columns | None = None  # after the first step, which tells whether the model copies
    column_banned: Tensor | None = None  # (rows, U)
    no_candidate: Tensor | None = None  # (rows, V): words that have a column, or that nobody may write

    @classmethod
    def begin(
        cls,
        decoder: Decoder,
        memory: Memory,
        extended_ids: Tensor,
        settings: BeamSettings,
        special: SpecialIds,
        banned_ids: Tensor | None,
    ) -> _Search:
        num_documents, beams, device = extended_ids.shape[0], settings.beam_size, extended_ids.device
        # all beams of a group begin equal: only the first may go on
        size = beams // settings.groups
        log_probs = torch.full(
            (num_documents, settings.groups, size), -torch.inf, dtype=torch.float64, device=device
        )
        log_probs[:, :, 0] = 0.0
        none = torch.zeros(num_documents, beams, dtype=torch.int64, device=device)
        kept = settings.groups * settings.kept
        minus_inf = torch.full((num_documents, kept), -torch.inf, dtype=torch.float64, device=device)
        nowhere = torch.zeros(num_documents, kept, dtype=torch.int64, device=device)
        return cls(
            decoder=decoder,
            settings=settings,
            special=special,
            memory=memory,
            state=decoder.initial_state(memory, 1),
            extended_ids=extended_ids,
            banned_ids=extended_ids[:, :0] if banned_ids is None else banned_ids,
            documents=torch.arange(num_documents, device=device),
            previous_ids=torch.full_like(none[:, :1], special.bos),
            log_probs=log_probs.flatten(1),
            closed=torch.zeros(num_documents, settings.groups, dtype=torch.bool, device=device),
            history=none.unsqueeze(2)[:, :, :0],
            coverage=None,
            pool=Endings(minus_inf, minus_inf.clone(), nowhere, nowhere.clone()),
            num_ended=torch.zeros(num_documents, settings.groups, dtype=torch.int64, device=device),
            trace=[],
        )

    @property
    def all_done(self) -> bool:
        return bool(self.closed.all())

    def step(self, num_words: int) -> None:
        """Take one decoder step, end what ends, and choose the next words."""
        step = self.decoder.step(self.memory, self.state, self.previous_ids)
        beams = self.settings.beam_size
        vocabulary = word_scores(step.vocab_log_probs)
        vocabulary_size = vocabulary.vocabulary_size
        if self.columns is None:
            self._set_up(vocabulary_size, step.attention, copies=step.p_gen_logit is not None)
        assert self.columns is not None
        words = next_words(vocabulary, step.attention, step.p_gen_logit, self.columns)
        end = take_end(words, self.columns)
        if num_words < self.settings.min_length:
            end[..., 0] = -torch.inf
        candidates = self._candidates(vocabulary, words)
        attention = step.attention
        if num_words == 0:  # one beam took the step for all
            words, candidates = words.expand(beams), candidates.expand(beams)
            end = end.expand(-1, beams, -1)
            attention = None if attention is None else attention.expand(-1, beams, -1)
        if self.coverage is not None:
            assert attention is not None
            self.coverage = self.coverage + attention
        is_last = num_words == self.settings.max_length
        choice = self._choose(words, candidates, num_words, end[..., 0], is_last)
        row_of_document = torch.zeros(len(self.num_ended), dtype=torch.int64, device=self.documents.device)
        row_of_document[self.documents] = torch.arange(len(self.documents), device=self.documents.device)
        self.trace.append(
            TraceStep(
                row_of_document=row_of_document,
                ids=choice.ids,
                parents=choice.parents,
                log_probs=choice.log_probs,
                generated=choice.generated,
                copied=choice.copied,
                end=end,
                attention=attention,
                p_gen=words.p_gen,
            )
        )
        if is_last:
            self.closed = torch.ones_like(self.closed)
            return
        self.state = select_beams(step.state, choice.parents if num_words else choice.parents * 0)
        self.log_probs = choice.total
        self.previous_ids = choice.ids.masked_fill(choice.ids >= vocabulary_size, self.special.unk)
        parents = choice.parents.unsqueeze(2)
        if self.coverage is not None:
            self.coverage = self.coverage.gather(1, parents.expand_as(self.coverage))
        if self.settings.ngram_block.size:
            history = self.history.gather(1, parents.expand(-1, -1, num_words))
            self.history = torch.cat([history, choice.ids.unsqueeze(2)], dim=2)
        self._close()

    def let_finished_documents_leave(self) -> None:
        """Drop the rows of finished documents, when there are enough of them to be worth it."""
        done = self.closed.all(1)
        if int(done.sum()) < LEAVING_SHARE * len(done):
            return
        rows = fill_holes(~done)
        if self.owns_memory:
            self.memory = keep_documents(self.memory, rows)
        else:  # whoever gave it may search it again
            self.memory = select_documents(self.memory, rows)
            self.owns_memory = True
        self.state = select_documents(self.state, rows)
        self.extended_ids = self.extended_ids[rows]
        self.banned_ids = self.banned_ids[rows]
        self.documents = self.documents[rows]
        self.previous_ids = self.previous_ids[rows]
        self.log_probs = self.log_probs[rows]
        self.closed = self.closed[rows]
        self.history = self.history[rows]
        self.coverage = None if self.coverage is None else self.coverage[rows]
        self.columns = None if self.columns is None else self.columns.of_documents(rows)
        self.column_banned = None if self.column_banned is None else self.column_banned[rows]
        self.no_candidate = None if self.no_candidate is None else self.no_candidate[rows]

    def endings(self) -> Endings:
        """The best hypotheses of each document over all groups."""
        scores, places = self.pool.scores.topk(self.settings.n_best, dim=1)
        return Endings(
            scores,
            self.pool.log_probs.gather(1, places),
            self.pool.steps.gather(1, places),
            self.pool.beams.gather(1, places),
        )

    def _set_up(self, vocabulary_size: int, attention: Tensor | None, *, copies: bool) -> None:
        if self.settings.penalties.uses_coverage:
            if attention is None:
                raise PrecisError(
                    f"the coverage penalty {self.settings.penalties.coverage!r} needs a model with attention, and "
                    "this one has none: set the coverage penalty to none"
                )
            self.coverage = attention.new_zeros(len(attention), self.settings.beam_size, attention.shape[2])
        self.columns = source_columns(
            self.extended_ids,
            vocabulary_size=vocabulary_size,
            pad=self.special.pad,
            eos=self.special.eos,
            copies=copies,
        )
        never = torch.tensor(self.special.never_written, device=self.extended_ids.device)
        banned = torch.isin(self.columns.ids, never)
        self.column_banned = banned | (self.columns.ids.unsqueeze(2) == self.banned_ids.unsqueeze(1)).any(2)
        shape = (len(self.extended_ids), vocabulary_size)
        self.no_candidate = torch.zeros(shape, dtype=torch.bool, device=never.device)
        self.no_candidate[:, never] = True
        self.no_candidate.scatter_(1, self.columns.vocab_ids, True)
        self.no_candidate.scatter_(1, self._of_vocabulary(self.banned_ids, vocabulary_size), True)

    def _candidates(self, vocabulary: WordScores, words: NextWords) -> Candidates:
        """The best words without a column; what may not be written gets -inf, here and in the columns.

        Each beam needs its k best continuations. A word that has a column is no less probable there, and so k
        words and one for each that may not be written are enough, whichever of them have columns.
        """
        assert self.columns is not None and self.column_banned is not None and self.no_candidate is not None
        settings = self.settings
        words.total.masked_fill_(self.column_banned.unsqueeze(1), -torch.inf)
        not_written = len(self.special.never_written) + 1 + self.banned_ids.shape[1]  # 1: the end
        count = settings.beam_size // settings.groups + not_written
        if settings.groups > 1 and settings.diversity:  # what other groups chose may fall behind
            count += settings.beam_size
        repeated = settings.ngram_block.completions(self.history, nothing=self.special.pad)
        if repeated is not None:
            count += int((repeated != self.special.pad).sum(2).max())
            is_repeated = (repeated.unsqueeze(3) == self.columns.ids[:, None, None, :]).any(2)
            words.total.masked_fill_(is_repeated, -torch.inf)
        log_probs, ids = vocabulary.best(count)
        excluded = self.no_candidate.gather(1, ids.flatten(1)).view_as(ids)
        if repeated is not None:
            excluded |= (ids.unsqueeze(3) == repeated.unsqueeze(2)).any(3)
        log_probs = (log_probs + words.offset).masked_fill(excluded, -torch.inf)
        return Candidates(ids, log_probs)

    def _of_vocabulary(self, ids: Tensor, vocabulary_size: int) -> Tensor:
        """Extended ids with padding in place of source OOVs."""
        return ids.masked_fill(ids >= vocabulary_size, self.special.pad)

    def _choose(
        self, words: NextWords, candidates: Candidates, num_words: int, end: Tensor, is_last: bool
    ) -> Choice:
        """The next words of every group, one group after the other; what ends goes into the pool."""
        assert self.columns is not None
        size = self.settings.beam_size // self.settings.groups
        choices: list[Choice] = []
        for group in range(self.settings.groups):
            slots = slice(group * size, (group + 1) * size)
            chosen = torch.cat([choice.ids for choice in choices], dim=1) if choices else None
            choice, ranked = best_words(
                words,
                candidates,
                slots,
                self.log_probs[:, slots],
                self.columns,
                chosen,
                self.settings.diversity,
            )
            if is_last:
                ranked = torch.full_like(ranked, -torch.inf)
            self._end(group, slots, self.log_probs[:, slots] + end[:, slots], ranked, num_words)
            choices.append(choice)
        if len(choices) == 1:
            return choices[0]
        return Choice(
            *(torch.cat(parts, dim=1) for parts in zip(*(choice.parts for choice in choices), strict=True))
        )

    def _end(self, group: int, slots: slice, log_probs: Tensor, ranked: Tensor, num_words: int) -> None:
        """Put the hypotheses that end after `num_words` words into the pool.

        Args:
            group: the group they are of.
            slots: its beams.
            log_probs: log-probability of each beam if it ends here, (rows, k).
            ranked: scores of the best continuations, (rows, k): an end must be among the k best of both.
            num_words: words written so far.
        """
        size = log_probs.shape[1]
        better_words = (ranked.unsqueeze(1) > log_probs.unsqueeze(2)).sum(2)
        ends_in_order = log_probs.argsort(dim=1, descending=True, stable=True)
        better_ends = torch.empty_like(ends_in_order)
        better_ends.scatter_(
            1, ends_in_order, torch.arange(size, device=log_probs.device).expand_as(ends_in_order)
        )
        ends = (
            (better_words + better_ends < size)
            & (log_probs > -torch.inf)
            & ~self.closed[:, group].unsqueeze(1)
        )
        scores = log_probs / self.settings.penalties.length_divisor(num_words + 1)
        if self.coverage is not None:
            mask = self.extended_ids.ne(self.special.pad).unsqueeze(1)
            scores = scores + self.settings.penalties.coverage_score(self.coverage[:, slots], mask)
        scores = scores.masked_fill(~ends, -torch.inf)
        kept = slice(group * self.settings.kept, (group + 1) * self.settings.kept)
        pool = [tensor[self.documents, kept] for tensor in self._pool_tensors]
        new_beams = torch.arange(slots.start, slots.stop, device=scores.device).expand_as(scores)
        ended = [scores, log_probs, torch.full_like(new_beams, num_words), new_beams]
        both = [torch.cat(pair, dim=1) for pair in zip(pool, ended, strict=True)]
        places = both[0].argsort(dim=1, descending=True, stable=True)[:, : self.settings.kept]
        for tensor, values in zip(self._pool_tensors, both, strict=True):
            tensor[self.documents, kept] = values.gather(1, places)
        self.num_ended[self.documents, group] += ends.sum(1)

    @property
    def _pool_tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.pool.scores, self.pool.log_probs, self.pool.steps, self.pool.beams

    def _close(self) -> None:
        """Settle the groups in which enough hypotheses have ended, or that no open one can change."""
        settings = self.settings
        size = settings.beam_size // settings.groups
        self.closed |= self.num_ended[self.documents] >= size
        attainable = self.log_probs / settings.penalties.length_divisor(settings.max_length + 1)
        if self.coverage is not None:
            mask = self.extended_ids.ne(self.special.pad).unsqueeze(1)
            attainable = attainable + settings.penalties.coverage_bound(self.coverage, mask)
        attainable = attainable.reshape(-1, settings.groups, size).amax(2)
        if settings.stop_early:
            needed = min(settings.n_best, size) - 1
            scores = self.pool.scores[self.documents].reshape(-1, settings.groups, settings.kept)
            reached = scores[:, :, needed]
            self.closed |= reached >= attainable
        self.closed |= attainable == -torch.inf
