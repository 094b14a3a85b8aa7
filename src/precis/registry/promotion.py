"""Who is champion, who was, and why: moves of the aliases, each with a record that stays.

A record is an MLflow run of the experiment `NAME promotions`, so that it lives where the versions do. It is
written before the aliases move and closed after: what a crash leaves open is settled by the next operation.
Each closed record holds the stack of champions, the newest last; `champion` is its top, `previous` the one
below, and a rollback takes the top off.

MLflow has no compare-and-set. Under the lock the champion is read again and compared with the one that the
decision was about, so of two promotions at once the second is refused. In a PostgreSQL registry the lock is the
database's, and holds for all machines. Else it is a file beside the database, which holds for the processes of one
machine: several machines on one MLflow server promote through one Prefect deployment, whose concurrency limit is 1.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from precis.errors import PrecisError
from precis.registry.versions import (
    CHAMPION,
    PREVIOUS,
    Version,
    find_alias,
    get_version,
    registry_lock,
)
from precis.training.lineage import who
from precis.training.tracking import experiment_id

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

Event = Literal["promote", "keep", "rollback", "found"]
ABOUT = (
    "Who became champion, and who did not: one run for each decision of the gate, promotion and rollback, with its "
    "reason; the evidence is its artifact evidence.json. `precis history` shows the same."
)
ROLLED_BACK_TAG = "precis.rolled_back"
_PREFIX = "precis.promotion."
_LONGEST_TAG = 4000  # characters; MLflow refuses longer ones


class ChampionChangedError(PrecisError):
    """The champion is no longer the one that the decision was about."""


@dataclass(frozen=True)
class Record:
    """One step of the history.

    Attributes:
        number: 1, 2, 3, …
        event: promote, keep (the challenger was not good enough), rollback, or found (somebody had moved the
            alias by other means).
        version: which version it was about.
        champion_before: None if there was none.
        champion_after: None if there is none.
        reason: in words.
        by: who or what started it.
        at: when, UTC.
        stack: champions after it, the newest last.
        run_id: the MLflow run that holds it, with the evidence.
    """

    number: int
    event: Event
    version: int | None
    champion_before: int | None
    champion_after: int | None
    reason: str
    by: str
    at: datetime
    stack: tuple[int, ...]
    run_id: str


def history(client: MlflowClient, name: str) -> list[Record]:
    """All closed records, oldest first."""
    return [_record(run) for run in _runs(client, name) if run.info.status == "FINISHED"]


def open_records(client: MlflowClient, name: str) -> list[Record]:
    """Records that a crash has left open; the next operation settles them."""
    return [_record(run) for run in _runs(client, name) if run.info.status == "RUNNING"]


def champion_of(client: MlflowClient, name: str) -> Version | None:
    """The version that is served, after settling what a crash may have left open."""
    with _settled(client, name):
        return find_alias(client, name, CHAMPION)


def promote(
    client: MlflowClient,
    name: str,
    number: int,
    *,
    expected_champion: int | None,
    reason: str,
    evidence: dict[str, Any] | None = None,
    again: bool = False,
) -> Record:
    """Make a version champion.

    Args:
        client: of the registry.
        name: of the registered model.
        number: the version.
        expected_champion: which champion the decision was about.
        reason: why, in words.
        evidence: what is kept with the record.
        again: whether a version that was rolled back may come back.

    Raises:
        ChampionChangedError: another version became champion in the meantime; this is recorded.
        PrecisError: there is no such version, it is champion already, or it was rolled back.
    """
    with _settled(client, name) as stack:
        version = get_version(client, name, number)
        champion = stack[-1] if stack else None
        if champion != expected_champion:
            changed = (
                f"version {number} was compared with {_called(expected_champion)}, but the champion is now "
                f"{_called(champion)}: run the gate again"
            )
            _write(client, name, "keep", number, champion, stack, f"refused: {changed}", evidence)
            raise ChampionChangedError(changed)
        if champion == number:
            raise PrecisError(f"version {number} of {name} is champion already")
        if ROLLED_BACK_TAG in version.tags:
            if not again:
                raise PrecisError(refused_again(version))
            client.delete_model_version_tag(name, str(number), ROLLED_BACK_TAG)
        return _move(client, name, "promote", number, (*stack, number), stack, reason, evidence)


def keep(
    client: MlflowClient, name: str, number: int, *, reason: str, evidence: dict[str, Any] | None = None
) -> Record:
    """Record that a version was not promoted; nothing moves."""
    with _settled(client, name) as stack:
        return _write(client, name, "keep", number, stack[-1] if stack else None, stack, reason, evidence)


def rollback(client: MlflowClient, name: str, *, reason: str, to: int | None = None) -> Record:
    """Make an earlier champion the champion again: the one before, or version `to`.

    Whatever was champion after it is marked, so that the gate does not promote it again unless told to.

    Raises:
        PrecisError: there is none before, or `to` never was champion or is champion now.
    """
    with _settled(client, name) as stack:
        if not stack:
            raise PrecisError(f"{name} has no champion: there is nothing to roll back")
        if to is None:
            if len(stack) < 2:
                raise PrecisError(
                    f"version {stack[-1]} of {name} is the first champion: there is none before it"
                )
            rest = stack[:-1]
        elif to == stack[-1]:
            raise PrecisError(f"version {to} of {name} is champion already")
        elif to in stack:
            rest = stack[: len(stack) - stack[::-1].index(to)]
        else:
            former = {record.champion_after for record in history(client, name)}
            if to not in former:
                raise PrecisError(
                    f"version {to} of {name} never was champion: `precis promote` lets the gate decide on it"
                )
            rest = (*stack[:-1], to)
        champion = rest[-1]
        left = len(rest) - 1 if to is not None and to not in stack else len(rest)
        for gone in set(stack[left:]) - {champion}:
            client.set_model_version_tag(
                name, str(gone), ROLLED_BACK_TAG, reason[:_LONGEST_TAG] or "no reason given"
            )
        if ROLLED_BACK_TAG in get_version(client, name, champion).tags:
            client.delete_model_version_tag(name, str(champion), ROLLED_BACK_TAG)
        return _move(client, name, "rollback", champion, rest, stack, reason, None)


def refused_again(version: Version) -> str:
    """What to say about a version that was rolled back."""
    return (
        f"version {version.number} of {version.name} was rolled back ({version.tags[ROLLED_BACK_TAG]}): "
        "`precis promote --again` lets it back in"
    )


def _move(
    client: MlflowClient,
    name: str,
    event: Event,
    number: int,
    stack: tuple[int, ...],
    before: tuple[int, ...],
    reason: str,
    evidence: dict[str, Any] | None,
) -> Record:
    """Write the intent, move the aliases, close the record; a crash in between is settled later."""
    run_id = _open(client, name, event, number, before[-1] if before else None, stack, reason, evidence)
    client.set_registered_model_alias(name, CHAMPION, str(stack[-1]))
    _point_previous(client, name, stack)
    found = find_alias(client, name, CHAMPION)
    if found is None or found.number != stack[-1]:
        client.set_terminated(run_id, "FAILED")
        raise ChampionChangedError(
            f"the alias champion of {name} was moved by somebody else at the same time"
        )
    client.set_terminated(run_id, "FINISHED")
    log.info("%s: the champion of %s is now version %d (%s)", event, name, stack[-1], reason)
    return _record(client.get_run(run_id))


def _write(
    client: MlflowClient,
    name: str,
    event: Event,
    number: int | None,
    champion: int | None,
    stack: tuple[int, ...],
    reason: str,
    evidence: dict[str, Any] | None,
) -> Record:
    run_id = _open(client, name, event, number, champion, stack, reason, evidence)
    client.set_terminated(run_id, "FINISHED")
    return _record(client.get_run(run_id))


def _open(
    client: MlflowClient,
    name: str,
    event: Event,
    number: int | None,
    champion: int | None,
    stack: tuple[int, ...],
    reason: str,
    evidence: dict[str, Any] | None,
) -> str:
    sequence = 1 + max((_number(run) for run in _runs(client, name)), default=0)
    values = {
        "number": sequence,
        "event": event,
        "version": number,
        "champion_before": champion,
        "stack": list(stack),
        "reason": reason[: _LONGEST_TAG - 500],
        "by": who(),
        "at": time.time(),
    }
    title = f"{sequence}: {event} version {number}" if number is not None else f"{sequence}: {event}"
    after = stack[-1] if stack else None
    run = client.create_run(
        experiment_id(client, experiment_name(name), ABOUT),
        run_name=title,
        tags={
            _PREFIX + "record": json.dumps(values),
            _PREFIX + "number": str(sequence),
            "precis.event": event,
            "precis.champion_before": _called(champion),
            "precis.champion_after": _called(after),
            "mlflow.user": who(),
            "mlflow.source.type": "PROJECT",
            "mlflow.source.name": "precis rollback" if event == "rollback" else "precis promote",
            "mlflow.note.content": _page(champion, after, reason, evidence)[:_LONGEST_TAG],
        },
    )
    if evidence is not None:
        client.log_dict(run.info.run_id, evidence, "evidence.json")
    return str(run.info.run_id)


def _page(before: int | None, after: int | None, reason: str, evidence: dict[str, Any] | None) -> str:
    """What a person reads on the record's page in MLflow (Markdown)."""
    stays = f"The champion stays {_called(after)}."
    moves = (
        f"The champion was {_called(before)} and is now {_called(after)}."
        if before is not None
        else f"The first champion is {_called(after)}."
    )
    lines = [reason, "", stays if before == after else moves]
    if evidence is not None and evidence.get("checks"):
        lines += ["", "| check | passed | found |", "| --- | --- | --- |"]
        lines += [
            f"| {check['name']} | {'yes' if check['passed'] else '**no**'} | {check['found']} |"
            for check in evidence["checks"]
        ]
    return "\n".join(lines)


@contextmanager
def _settled(client: MlflowClient, name: str) -> Iterator[tuple[int, ...]]:
    """Hold the lock and give the stack of champions as it truly is."""
    with registry_lock():
        yield _settle(client, name)


def _settle(client: MlflowClient, name: str) -> tuple[int, ...]:
    """Close what a crash left open, and take note of a champion that was not made here."""
    found = find_alias(client, name, CHAMPION)
    champion = found.number if found is not None else None
    for run in _runs(client, name):
        if run.info.status != "RUNNING":
            continue
        planned = _record(run)
        took_effect = planned.event == "keep" or (planned.stack and planned.stack[-1] == champion)
        log.warning(
            "record %d was cut off %s it took effect", planned.number, "after" if took_effect else "before"
        )
        client.set_terminated(run.info.run_id, "FINISHED" if took_effect else "KILLED")
    records = history(client, name)
    stack = records[-1].stack if records else ()
    if (stack[-1] if stack else None) != champion:
        stack = (*stack, champion) if champion is not None else ()
        reason = f"the alias champion was moved to {_called(champion)} by other means than precis"
        log.warning("%s", reason)
        before = records[-1].champion_after if records else None
        _write(client, name, "found", champion, before, stack, reason, None)
    _point_previous(client, name, stack)
    return stack


def _point_previous(client: MlflowClient, name: str, stack: tuple[int, ...]) -> None:
    wanted = stack[-2] if len(stack) > 1 else None
    found = find_alias(client, name, PREVIOUS)
    if (found.number if found is not None else None) == wanted:
        return
    if wanted is None:
        client.delete_registered_model_alias(name, PREVIOUS)
    else:
        client.set_registered_model_alias(name, PREVIOUS, str(wanted))


def experiment_name(name: str) -> str:
    """Where the records of a registered model are."""
    return f"{name} promotions"


def _runs(client: MlflowClient, name: str) -> list[Any]:
    """All records, open ones too, oldest first."""
    experiment = client.get_experiment_by_name(experiment_name(name))
    if experiment is None:
        return []
    runs: list[Any] = []
    token: str | None = None
    while True:
        page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
        runs.extend(run for run in page if _PREFIX + "record" in run.data.tags)
        token = page.token
        if not token:
            return sorted(runs, key=_number)


def _number(run: Any) -> int:
    return int(run.data.tags[_PREFIX + "number"])


def _record(run: Any) -> Record:
    values = json.loads(run.data.tags[_PREFIX + "record"])
    stack = tuple(values["stack"])
    return Record(
        number=values["number"],
        event=values["event"],
        version=values["version"],
        champion_before=values["champion_before"],
        champion_after=stack[-1] if stack else None,
        reason=values["reason"],
        by=values["by"],
        at=datetime.fromtimestamp(values["at"], tz=UTC),
        stack=stack,
        run_id=run.info.run_id,
    )


def _called(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"
