"""Which version a person means: by alias, number, run, or one of its answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from precis.errors import PrecisError
from precis.files import read_ordinary
from precis.manifest import combined_digest, digests_of
from precis.registry.versions import (
    FINGERPRINT_TAG,
    Version,
    all_versions,
    find_alias,
    get_version,
)
from precis.serving.answer_id import AnswerId

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LONGEST = 4096  # characters, as of a path
_LARGEST_SUMMARY = 100_000_000  # bytes
EXPECTED = (
    "models:/NAME@ALIAS, models:/NAME/NUMBER, runs:/ID, a summary's id, or a file with a summary in JSON"
)


def resolve(client: MlflowClient, uri: str, name: str) -> Version:
    """The version that a person means.

    Args:
        client: of the registry.
        uri: see `EXPECTED`; also a bare NUMBER, ALIAS or run id.
        name: of the registered model, where `uri` does not say.
    """
    if len(uri) > _LONGEST or not uri.isprintable():
        raise PrecisError(f"{uri[:100]!r} names no model: expected {EXPECTED}")
    if match := re.fullmatch(r"models:/([^/@'\"\\]+)(?:@([^/]+)|/([0-9]{1,9}))", uri):
        name, alias, number = match.groups()
        if number is not None:
            return get_version(client, name, int(number))
        return _of_alias(client, name, alias)
    if re.fullmatch(r"[0-9]{1,9}", uri):
        return get_version(client, name, int(uri))
    if match := re.fullmatch(r"(?:runs:/)?([0-9a-f]{32})(?:/.*)?", uri):
        return _of_run(client, name, match[1])
    if answer := AnswerId.parse(uri):
        return _of_answer(client, name, answer)
    if _is_file(uri):
        return _of_summary(client, name, Path(uri))
    return _of_alias(client, name, uri.removeprefix("@"))


def answer_in(uri: str) -> tuple[AnswerId | None, str | None]:
    """The id that `uri` is, or that the summary in the file `uri` has, and the summary's text if it is there."""
    if answer := AnswerId.parse(uri):
        return answer, None
    if not _is_file(uri):
        return None, None
    values = _read_summary(Path(uri))
    text = values.get("summary")
    return AnswerId.parse(str(values.get("summary_id"))), text if isinstance(text, str) else None


def _is_file(uri: str) -> bool:
    try:
        return Path(uri).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _of_alias(client: MlflowClient, name: str, alias: str) -> Version:
    version = find_alias(client, name, alias)
    if version is None:
        raise PrecisError(f"nothing is called {name}@{alias}: expected {EXPECTED}")
    return version


def _of_run(client: MlflowClient, name: str, run_id: str) -> Version:
    found = [version for version in all_versions(client, name) if version.run_id == run_id]
    if not found:
        raise PrecisError(
            f"no version of {name} was made from run {run_id}: only registered models can be traced"
        )
    return found[-1]


def _of_answer(client: MlflowClient, name: str, answer: AnswerId) -> Version:
    versions = all_versions(client, name)
    found = [version for version in versions if (version.digest or "").startswith(answer.model)]
    if found:
        return found[-1]
    # of a model of the working copy, which `precis summarize` uses by default
    fingerprint = _fingerprint_of(answer, Path("models").glob("*/run.json"))
    trained = [version for version in versions if version.tags.get(FINGERPRINT_TAG) == fingerprint]
    if fingerprint is not None and trained:
        return trained[-1]
    raise PrecisError(
        f"{answer} was written by a model whose files have a digest that starts with {answer.model}: no version of "
        f"{name} has, "
        + (
            "and no model in models/"
            if fingerprint is None
            else "and the one in models/ is not registered: `dvc repro register`"
        )
    )


def _fingerprint_of(answer: AnswerId, run_files: Iterable[Path]) -> str | None:
    for path in run_files:
        if combined_digest(digests_of(path.parent)).startswith(answer.model):
            return str(json.loads(path.read_text(encoding="utf-8"))["fingerprint"])
    return None


def _of_summary(client: MlflowClient, name: str, path: Path) -> Version:
    summary = _read_summary(path)
    answer = AnswerId.parse(str(summary.get("summary_id")))
    if answer is not None:
        return _of_answer(client, name, answer)
    number, run_id = summary.get("model_version"), summary.get("run_id")
    if number is not None and re.fullmatch(r"[0-9]{1,9}", str(number)):
        return get_version(client, name, int(str(number)))
    if run_id is not None and len(str(run_id)) < _LONGEST:
        return _of_run(client, name, str(run_id))
    raise PrecisError(f"{path} does not say which model wrote it: expected summary_id or model_version in it")


def _read_summary(path: Path) -> dict[str, object]:
    """The first line of a file as `precis summarize --jsonl` writes it, or what the served model answered."""
    try:
        text = read_ordinary(path, _LARGEST_SUMMARY).decode("utf-8")
        try:
            values = json.loads(text)
        except ValueError:
            values = json.loads(text.splitlines()[0])
        if "predictions" in values:
            values = values["predictions"][0]
        values.keys()
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise PrecisError(f"{path} is no summary in JSON ({error})") from error
    return dict(values)
