"""Documents of several requests, summarized by one search.

While a worker searches, requests wait; when it is done it takes all that can share a search: the same model, the same
settings. So a lone request waits for nobody, and under load the searches grow. A document's summary does not depend on
the others of its batch.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from precis.errors import PrecisError
from precis.service.models import Loaded
from precis.service.refusal import RefusedError

if TYPE_CHECKING:
    from precis.service.metrics import Metrics
    from precis.serving.summary import Summary

log = logging.getLogger(__name__)
_LONGEST_RETRY = 30  # seconds
_FORGETTING = 0.2  # weight of the newest search in the mean time of a document


@dataclass(eq=False)
class _Job:
    """A request that waits."""

    texts: Sequence[str]
    loaded: Loaded
    decoding: tuple[tuple[str, Any], ...]
    deadline: float
    since: float = field(default_factory=time.monotonic)
    future: Future[list[Summary]] = field(default_factory=Future)

    def may_share(self, other: _Job) -> bool:
        """Whether one search can serve both."""
        return self.loaded is other.loaded and self.decoding == other.decoding


class Batcher:
    """A queue with an end, and the threads that empty it.

    Args:
        workers: searches at a time.
        threads: of torch, in each search.
        batch_size: the most documents in a search.
        waiting: the most documents in the queue.
        metrics: what is counted.
    """

    def __init__(
        self, *, workers: int, threads: int, batch_size: int, waiting: int, metrics: Metrics
    ) -> None:
        self._batch_size = batch_size
        self._most_waiting = waiting
        self._threads = threads
        self._metrics = metrics
        self._queue: deque[_Job] = deque()
        self._num_waiting = 0
        self._seconds_each = 0.05  # of a document, until there was one
        self._closing = False
        self._changed = threading.Condition()
        self._workers = [
            threading.Thread(target=self._work, name=f"search-{number}", daemon=True)
            for number in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def num_waiting(self) -> int:
        """Documents in the queue."""
        return self._num_waiting

    @property
    def is_alive(self) -> bool:
        """Whether every worker is at its work."""
        return all(worker.is_alive() for worker in self._workers)

    def submit(
        self, texts: Sequence[str], loaded: Loaded, decoding: Mapping[str, Any], deadline: float
    ) -> Future[list[Summary]]:
        """Put documents into the queue.

        Args:
            texts: of one request.
            loaded: the model.
            decoding: what to change in its decoding parameters.
            deadline: by `time.monotonic`; what has not begun by then never does.

        Raises:
            RefusedError: the queue is full, or closed.
        """
        job = _Job(texts, loaded, tuple(sorted(decoding.items())), deadline)
        with self._changed:
            if self._closing:
                raise RefusedError(503, "the service is stopping", retry_after=5)
            # a request larger than the whole queue must have its chance, too
            if self._num_waiting and self._num_waiting + len(texts) > self._most_waiting:
                wait = math.ceil(self._num_waiting * self._seconds_each / len(self._workers))
                raise RefusedError(
                    429,
                    f"{self._num_waiting} documents are waiting, at most {self._most_waiting} may: try again later",
                    retry_after=min(max(1, wait), _LONGEST_RETRY),
                )
            self._queue.append(job)
            self._num_waiting += len(texts)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Take nothing more, finish what is there."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()

    def _work(self) -> None:
        import torch

        torch.set_num_threads(self._threads)
        while jobs := self._take():
            started = time.monotonic()
            self._search(jobs)
            self._measure(jobs, started)
            jobs.clear()  # a worker at rest holds neither texts nor an old model

    def _take(self) -> list[_Job]:
        """The jobs of the next search, the longest waiting first; none when the service stops."""
        with self._changed:
            while True:
                self._drop_late()
                if self._queue:
                    break
                if self._closing:
                    return []
                self._changed.wait()
            first = self._queue[0]
            taken: list[_Job] = []
            room = self._batch_size
            for job in self._queue:
                if job.may_share(first) and (not taken or len(job.texts) <= room):
                    taken.append(job)
                    room -= len(job.texts)
            for job in taken:
                self._queue.remove(job)
                self._num_waiting -= len(job.texts)
        begun = [job for job in taken if job.future.set_running_or_notify_cancel()]
        return begun or self._take()

    def _drop_late(self) -> None:
        """Forget what nobody waits for any more."""
        now = time.monotonic()
        for job in [job for job in self._queue if job.future.cancelled() or job.deadline <= now]:
            self._queue.remove(job)
            self._num_waiting -= len(job.texts)
            job.future.cancel()

    def _search(self, jobs: list[_Job]) -> None:
        texts = [text for job in jobs for text in job.texts]
        first = jobs[0]
        try:
            summaries = first.loaded.summarizer.summarize(
                texts, batch_size=self._batch_size, **dict(first.decoding)
            )
        except Exception as error:
            if len(jobs) > 1:
                # whose fault it is shows when each is alone
                for job in jobs:
                    self._search([job])
                return
            if not isinstance(error, PrecisError):
                log.exception("a search failed")
            first.future.set_exception(error)
            return
        start = 0
        for job in jobs:
            job.future.set_result(summaries[start : start + len(job.texts)])
            start += len(job.texts)

    def _measure(self, jobs: list[_Job], started: float) -> None:
        documents = sum(len(job.texts) for job in jobs)
        seconds = time.monotonic() - started
        self._seconds_each += _FORGETTING * (seconds / documents - self._seconds_each)
        self._metrics.batch_documents.observe(documents)
        self._metrics.search_seconds.observe(seconds)
        for job in jobs:
            self._metrics.wait_seconds.observe(started - job.since)
