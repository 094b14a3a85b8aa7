"""A new champion takes over while the service answers.

The new version is loaded beside the old one and tried; only then does one assignment make it the one that answers.
Requests that have begun keep theirs. Whatever goes wrong before leaves the old version where it is.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from precis.errors import PrecisError
from precis.service.models import Loaded, ServedModel, find_version, is_alias, load_version

if TYPE_CHECKING:
    from precis.registry.versions import Version
    from precis.serving.summarizer import Summarizer

log = logging.getLogger(__name__)
_MOST_PATIENCE = 300.0  # seconds between two tries of a candidate that was refused
# of several scripts, one of them longer than the others, so that their batch is padded
_TEXTS = (
    "The meeting moved to Friday because room seven floods and nobody has boots.",
    "Zoë's `parse_header` returns None — see issue no. 42 — when the file is empty. It should raise. " * 5,
    "会議は金曜日に変更されました。 Встреча перенесена на пятницу.",
    "",
)


class Watcher:
    """Looks up what aliases point at, and exchanges models.

    Args:
        models: those whose address is an alias are watched.
        seconds: between two looks.
        find: the version that an address means.
        load: a version into memory.
    """

    def __init__(
        self,
        models: Iterable[ServedModel],
        seconds: float,
        *,
        find: Callable[[str], Version] = find_version,
        load: Callable[[Version, str], Loaded] = load_version,
    ) -> None:
        self._models = [model for model in models if is_alias(model.uri)]
        self._seconds = seconds
        self._find = find
        self._load = load
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._refused: dict[tuple[str, int], tuple[int, float]] = {}  # tries, and when the next may be

    def start(self) -> None:
        """Begin, if there is anything to watch."""
        if self._models:
            self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End soon; a load that has begun is not waited for."""
        self._stopping.set()

    def look(self) -> None:
        """Look once at every alias."""
        for model in self._models:
            try:
                version = self._find(model.uri)
            except Exception as error:  # whatever the registry's client raises, what is loaded still answers
                self._note(model, f"{model.uri} could not be looked up: {_reason(error)}")
                continue
            self._compare(model, version)

    def _watch(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.look()

    def _compare(self, model: ServedModel, version: Version) -> None:
        loaded = model.loaded
        if loaded is not None and loaded.number == version.number:
            if model.problem is not None:
                log.info("%s is version %d, as before", model.uri, version.number)
                model.problem = None
            return
        tries, not_before = self._refused.get((model.name, version.number), (0, 0.0))
        if time.monotonic() < not_before:
            return
        try:
            candidate = self._load(version, model.uri)
            smoke_test(candidate.summarizer)
        except (
            Exception
        ) as error:  # a candidate may fail in any way; none of them concerns those who wait for answers
            wait = min(self._seconds * 2**tries, _MOST_PATIENCE)
            self._refused[model.name, version.number] = tries + 1, time.monotonic() + wait
            old = "nothing" if loaded is None else f"version {loaded.version}"
            problem = f"version {version.number} is refused, {old} still answers: {_reason(error)}"
            if problem != model.problem:
                log.error("%s: %s", model.uri, problem)
            model.refuse(problem)
            return
        self._refused.pop((model.name, version.number), None)
        model.swap(candidate)
        old = "nothing" if loaded is None else f"version {loaded.version}"
        log.info("%s: version %d answers from now on, before it was %s", model.uri, version.number, old)

    def _note(self, model: ServedModel, problem: str) -> None:
        if problem != model.problem:
            log.warning("%s", problem)
            model.problem = problem


def smoke_test(summarizer: Summarizer) -> None:
    """Have a model summarize a few texts.

    Raises:
        PrecisError: something is wrong with what it writes; it says what.
    """
    try:
        summaries = summarizer.summarize(_TEXTS)
        again = summarizer.summarize(_TEXTS)
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        raise PrecisError(f"it cannot summarize ({type(error).__name__}: {error})") from error
    for text, summary in zip(_TEXTS, summaries, strict=True):
        if not text and summary.text:
            raise PrecisError(f"it summarizes the empty text as {summary.text!r}")
        figures = [summary.score, summary.log_prob, *(token.probability for token in summary.tokens)]
        if not all(map(math.isfinite, figures)):
            raise PrecisError("it gives probabilities that are no numbers")
        for token in summary.tokens:
            if summary.text[token.start : token.end] != token.text:
                raise PrecisError("its words do not stand where it says they do")
    if not any(summary.text for summary in summaries):
        raise PrecisError("it writes nothing about any of the texts that it is tried on")
    if [summary.text for summary in again] != [summary.text for summary in summaries]:
        raise PrecisError("asked twice, it gives two answers")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PrecisError) else f"{type(error).__name__}: {error}"
