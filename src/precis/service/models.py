"""Loaded models, and the names under which requests choose between them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.registry.versions import Version
    from precis.serving.summarizer import Summarizer

_REGISTRY = "models:/"
_DIGITS = 12  # of a digest, where a model has no version


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory.

    Attributes:
        uri: what it was loaded by.
        summarizer: makes its summaries.
        number: its version in the registry; None for a folder.
        loaded_at: Unix time.
    """

    uri: str
    summarizer: Summarizer
    number: int | None = None
    loaded_at: float = field(default_factory=time.time)

    @property
    def version(self) -> str:
        """The version in the registry; for a folder the first digits of its digest."""
        if self.number is not None:
            return str(self.number)
        return (self.summarizer.digest or "unknown")[:_DIGITS]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "uri": self.uri,
            "version": self.version,
            "run_id": self.summarizer.run_id,
            "digest": self.summarizer.digest,
        }


class ServedModel:
    """A name of the service, and the model that answers to it at the moment.

    Args:
        name: what a request calls it, such as champion.
        uri: models:/NAME@ALIAS, models:/NAME/NUMBER, or a folder.
        loaded: what answers; None until one could be loaded.
    """

    def __init__(self, name: str, uri: str, loaded: Loaded | None = None) -> None:
        self.name = name
        self.uri = uri
        self.problem: str | None = None
        self.num_swaps = 0
        self.num_refused = 0
        self._loaded = loaded
        self._lock = threading.Lock()

    @property
    def loaded(self) -> Loaded | None:
        """What answers now; a request asks once and keeps it."""
        return self._loaded

    def swap(self, loaded: Loaded) -> None:
        """Let another model answer from now on; requests that have begun keep theirs."""
        with self._lock:
            self.num_swaps += self._loaded is not None
            self.problem = None
            self._loaded = loaded

    def refuse(self, problem: str) -> None:
        """Note why a candidate does not answer; what answered before still does."""
        with self._lock:
            self.num_refused += 1
            self.problem = problem

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        loaded = self._loaded
        values: dict[str, Any] = {"uri": self.uri, "version": None} if loaded is None else loaded.as_dict()
        values |= {
            "uri": self.uri,
            "swaps": self.num_swaps,
            "refused": self.num_refused,
            "problem": self.problem,
        }
        if loaded is not None:
            values["loaded_at"] = round(loaded.loaded_at, 3)
        return values


def name_of(uri: str) -> str:
    """What a model is called unless told otherwise: its alias, its number, or its folder."""
    return uri.removeprefix(_REGISTRY).rstrip("/").replace("@", "/").rpartition("/")[2] or uri


def is_alias(uri: str) -> bool:
    """Whether what is meant can change while the service runs."""
    return uri.startswith(_REGISTRY) and "@" in uri


def open_model(uri: str) -> Loaded:
    """Load a model from the registry or a folder, every byte checked where a manifest says how.

    Raises:
        PrecisError: there is none, it is damaged, or nothing says how it decodes.
    """
    if uri.startswith(_REGISTRY):
        return load_version(find_version(uri), uri)
    from precis.opening import located
    from precis.serving.summarizer import Summarizer

    with located(uri) as found:
        summarizer = Summarizer.load(found.directory, run_id=found.run_id, digest=found.digest)
    summarizer.decoding = found.decoding
    return Loaded(uri, summarizer)


def find_version(uri: str) -> Version:
    """The version in the registry that is meant at the moment.

    Raises:
        PrecisError: there is none, or the registry does not answer.
    """
    from mlflow.exceptions import MlflowException

    from precis import opening

    try:
        return opening.find_version(uri)
    except MlflowException as error:
        raise PrecisError(f"the registry cannot be asked for {uri}: {error}") from error


def load_version(version: Version, uri: str) -> Loaded:
    """Load a version of the registry, once its files are those that were registered."""
    from precis.registry.packaging import unpacked
    from precis.serving.summarizer import Summarizer

    with unpacked(version.uri, digest=version.digest) as directory:
        summarizer = Summarizer.load(
            directory, run_id=version.run_id, model_version=str(version.number), digest=version.digest
        )
    return Loaded(uri, summarizer, version.number)
