"""Corpora of the Hugging Face hub, or a folder in the hub's layout, through `datasets`."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from precis.corpora.article import Article
from precis.corpora.columns import Columns
from precis.corpora.files import Retries, with_retries
from precis.errors import PrecisError, UnreachableError

_HUB_PORT = 443
_CONNECT_SECONDS = 3.0
_ONLINE = "Streaming needs the network all the time; corpus.streaming: false reads from the cache, too"


@dataclass(frozen=True)
class HubReader:
    """Reads a dataset by name (or a local folder in the hub's layout), configuration and revision."""

    name: str
    config: str | None
    revision: str | None
    splits: Mapping[str, str | None]
    columns: Columns
    retries: Retries

    def read(self) -> Iterator[Article]:
        """The rows, split by split; raises PrecisError if the dataset is out of reach or has other columns."""
        local = Path(self.name).is_dir()
        is_out_of_reach = not local and _goes_offline_if_unreachable()
        try:
            dataset = with_retries(self._load, self.retries, f"hub dataset {self.name}", _advice())
        except PrecisError as error:
            if is_out_of_reach:  # and not in the cache: another day it may be there
                raise UnreachableError(str(error)) from error
            raise
        for ours, theirs in self._wanted(dataset).items():
            rows = dataset[theirs]
            self.columns.check(rows.column_names, f"{self.name}, split {theirs},")
            columns = self.columns
            if len(rows) and isinstance(rows[0][columns.document], list):
                columns = replace(columns, sentences=True)  # a column of lists all through: it has one type
            for number, row in enumerate(rows, start=1):
                article = columns.article(row, f"{theirs}:{number}")
                article.split = ours
                yield article

    def shards(self) -> list[HubShard]:
        """The pieces that the dataset is stored in, none of which is copied here.

        Raises:
            PrecisError: the dataset is out of reach, or has other splits.
        """
        local = Path(self.name).is_dir()
        if local:
            version = _version_of_folder(Path(self.name))
            reader = self
        else:
            version = with_retries(self._commit, self.retries, f"hub dataset {self.name}", _ONLINE)
            reader = replace(self, revision=version)  # a branch may move between two runs
        dataset = with_retries(
            partial(reader._load, streaming=True), self.retries, f"hub dataset {self.name}"
        )
        return [
            HubShard(
                f"{theirs}-{number}",
                ours,
                version,
                partial(_rows_of_shard, dataset[theirs], number),
                self.columns,
            )
            for ours, theirs in self._wanted(dataset).items()
            for number in range(dataset[theirs].num_shards)
        ]

    def _commit(self) -> str:
        import httpx
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

        try:
            return str(HfApi().dataset_info(self.name, revision=self.revision).sha)
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise PrecisError(_unreachable(self.name, self.revision, error)) from error
        except (HfHubHTTPError, httpx.HTTPError) as error:
            raise ConnectionError(_first_line(error)) from error

    def _wanted(self, dataset: Mapping[str, Any]) -> dict[str, str]:
        """Our splits, and what the dataset calls them."""
        wanted = {ours: theirs for ours, theirs in self.splits.items() if theirs is not None}
        missing = sorted(set(wanted.values()) - set(dataset))
        if missing:
            raise PrecisError(
                f"corpus.hub.splits: {self.name} has no split {', '.join(map(repr, missing))}; "
                f"there: {', '.join(sorted(dataset))}"
            )
        return wanted

    def _load(self, streaming: bool = False) -> Mapping[str, Any]:
        import datasets  # takes seconds, and the other sources do without
        import httpx
        from datasets.exceptions import DatasetNotFoundError

        datasets.disable_progress_bars()
        try:
            loaded: Mapping[str, Any] = datasets.load_dataset(
                self.name, self.config, revision=self.revision, streaming=streaming
            )
            return loaded
        except ValueError as error:
            raise PrecisError(f"corpus.hub: {self.name} cannot be loaded: {_first_line(error)}") from error
        except DatasetNotFoundError as error:
            raise PrecisError(_unreachable(self.name, self.revision, error)) from error
        except datasets.exceptions.FileNotFoundDatasetsError as error:
            raise PrecisError(f"corpus.hub: {self.name} has no data: {_first_line(error)}") from error
        except (ConnectionError, FileNotFoundError) as error:  # the second one: a hub that answers 5xx
            if datasets.config.HF_HUB_OFFLINE:
                raise PrecisError(_unreachable(self.name, self.revision, error)) from error
            raise ConnectionError(str(error)) from error  # and try again
        except httpx.HTTPError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        except datasets.exceptions.DatasetGenerationError as error:
            cause = error.__cause__ or error
            raise PrecisError(f"corpus.hub: {self.name} is damaged: {_first_line(cause)}") from error


@dataclass(frozen=True)
class HubShard:
    """A piece of a split of a dataset; see `precis.corpora.streaming`."""

    name: str
    split: str
    version: str
    rows: Callable[[], Iterator[dict[str, Any]]]
    columns: Columns
    digest: str | None = None

    def read(self) -> Iterator[Article]:
        """Its rows; raises PrecisError if they have other columns or cannot be read, UnreachableError in time."""
        columns = self.columns
        for number, row in enumerate(self.rows(), start=1):
            if number == 1:
                columns.check(row, f"shard {self.name}")
                columns = replace(columns, sentences=isinstance(row[columns.document], list))
            yield columns.article(row, f"{self.name}:{number}")


def _rows_of_shard(split: Any, number: int) -> Iterator[dict[str, Any]]:
    import datasets
    import httpx
    import pyarrow as pa

    try:
        # of one shard alone, so that what is left of a run that was cut off can be read without the rest
        yield from split.shard(split.num_shards, number)
    except (ConnectionError, TimeoutError, httpx.HTTPError) as error:
        raise UnreachableError(f"the hub does not answer: {_first_line(error)}. {_ONLINE}") from error
    except (datasets.exceptions.DatasetsError, pa.ArrowException, OSError, ValueError) as error:
        raise PrecisError(f"corpus.hub: shard {number} is damaged: {_first_line(error)}") from error


def _version_of_folder(folder: Path) -> str:
    about = [
        f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()


def _goes_offline_if_unreachable() -> bool:
    """Without a network the hub's own client retries for 23 s; look once, and let it use its cache.

    Returns:
        whether the hub did not answer.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        return False
    if any(
        os.environ.get(name)
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HF_ENDPOINT")
    ):
        return False  # the way leads through another machine, which the client knows how to reach
    try:
        socket.create_connection(("huggingface.co", _HUB_PORT), timeout=_CONNECT_SECONDS).close()
    except OSError:
        # read when `huggingface_hub` and `datasets` are imported
        os.environ["HF_HUB_OFFLINE"] = "1"
        return True
    return False


def _unreachable(name: str, revision: str | None, error: BaseException) -> str:
    version = f" at revision {revision}" if revision else ""
    where = f"corpus.hub.name: {name}{version} is neither in reach nor in the cache"
    return f"{where}: {_first_line(error)}. {_advice()}"


def _advice() -> str:
    cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
    return (
        f"Check the name, the network and the cache ({cache}); or fetch the files elsewhere, put them into a "
        "folder, and set corpus.source: files and corpus.files.path to it"
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
