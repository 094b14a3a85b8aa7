"""Summaries by several processes: beam search is many small operations, and two threads share them badly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from precis.processes import num_cores, worker_processes
from precis.serving.summarizer import Summarizer
from precis.serving.summary import Summary

Row = TypeVar("Row")
Summarize = Callable[[Iterable[list[Row]], Callable[[Row], str]], Iterator[tuple[list[Row], list[Summary]]]]

WINDOWS_AHEAD = 2  # of each process: enough to keep it busy, and what memory is bounded by


@contextmanager
def summarizing_processes(
    summarizer: Summarizer,
    directory: Path,
    number: int,
    *,
    batch_size: int,
    threads: int,
    decoding: Mapping[str, Any],
    progress: Callable[[int], object],
) -> Iterator[Summarize[Any]]:
    """Give a function that summarizes windows of rows, in their order.

    A window is summarized as `Summarizer.summarize` does it, by one process: the number of processes changes
    nothing about the summaries. No more than a few windows are read ahead.

    Args:
        summarizer: what the one process uses, if it is one.
        directory: where others load the same from.
        number: of processes; 0: one for each core.
        batch_size: documents decoded together.
        threads: of torch, in each process.
        decoding: the decoding parameters.
        progress: called with the number of documents done since the last call.
    """
    number = number or num_cores()
    if number <= 1:
        torch.set_num_threads(threads)

        def here(
            windows: Iterable[list[Row]], text_of: Callable[[Row], str]
        ) -> Iterator[tuple[list[Row], list[Summary]]]:
            for window in windows:
                texts = [text_of(row) for row in window]
                yield (
                    window,
                    summarizer.summarize(texts, batch_size=batch_size, progress=progress, **decoding),
                )

        yield here
        return
    task = partial(_summarize, directory, batch_size, threads, dict(decoding))
    with worker_processes(number) as pool:

        def elsewhere(
            windows: Iterable[list[Row]], text_of: Callable[[Row], str]
        ) -> Iterator[tuple[list[Row], list[Summary]]]:
            for window, summaries in _ahead(pool, task, windows, text_of, WINDOWS_AHEAD * number):
                progress(len(window))
                yield window, summaries

        yield elsewhere


def _ahead(
    pool: ProcessPoolExecutor,
    task: Callable[[list[str]], list[Summary]],
    windows: Iterable[list[Row]],
    text_of: Callable[[Row], str],
    most: int,
) -> Iterator[tuple[list[Row], list[Summary]]]:
    waiting: deque[tuple[list[Row], Future[list[Summary]]]] = deque()
    for window in windows:
        texts = [text_of(row) for row in window]
        waiting.append((window, pool.submit(task, texts)))
        if len(waiting) > most:
            first, future = waiting.popleft()
            yield first, future.result()
    while waiting:
        first, future = waiting.popleft()
        yield first, future.result()


@lru_cache(maxsize=1)
def _summarizer(directory: Path) -> Summarizer:
    return Summarizer.load(directory)


def _summarize(
    directory: Path,
    batch_size: int,
    threads: int,
    decoding: dict[str, Any],
    texts: Sequence[str],
) -> list[Summary]:
    torch.set_num_threads(threads)
    return _summarizer(directory).summarize(texts, batch_size=batch_size, **decoding)
