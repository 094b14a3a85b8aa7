"""Retraining on a schedule: look for new data, reproduce, let the gate decide, tell people.

    python flows/retrain.py

Stops early when nothing changed. One retraining at a time: the deployment's concurrency limit, and the
pipeline's lock, which the kernel frees if everything is killed. A cancelled or timed-out run ends the training
with time for a checkpoint; the next run goes on from there.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import reproduce as reproducing  # sets Prefect's environment, so it comes before prefect
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

import pipeline

KEPT_EXIT = 3  # of `precis promote`: the champion stays
DRIFTED_EXIT = 2  # of `precis drift --fail`: there is something new
CODE = ("src/", "constraints.txt")  # of the files that stages depend on
SOURCE_STAGE, SOURCE_OUTPUT = "download", "data/raw"
COMMIT = re.compile("[0-9a-f]{40}")
Changes = dict[str, dict[str, str]]  # of `pipeline.changes`
TIMEOUT_SECONDS = 12 * 3600.0
NOTIFY_DELAYS = [5.0, 30.0, 120.0]  # seconds
MOST_TOLD = 8  # of the things that changed
SUBJECT = "precis: retraining"


@flow(name="retrain", flow_run_name=reproducing.called_by_its_time, timeout_seconds=TIMEOUT_SECONDS)
def retrain(
    repository: Path = pipeline.ROOT,
    promote: bool = True,
    notification_block: str | None = None,
    new_documents: str | None = None,
) -> State[Any]:
    """Bring everything up to date with the source, and promote the new model if the gate lets it pass.

    Args:
        repository: root of the working copy.
        promote: False only says what the gate would decide.
        notification_block: a Prefect block that tells people, such as slack-webhook/team, or webhook/NAME, which
            gets JSON by POST; None: a log line.
        new_documents: a file, folder or URL of what came in: when nothing but the data changed, and `precis drift`
            finds nothing new in these, nothing is trained.
    """
    reproducing.name_flow_run()
    try:
        with pipeline.pipeline_lock(repository) as lock:
            said = pipeline.repair(repository)
            for sentence in said:
                get_run_logger().warning("repaired: %s", sentence)
            if may_have_moved(repository):
                reproducing.bring_up_to_date(SOURCE_STAGE, repository, lock, force=True)
            changed = pipeline.changes(repository)
            if not changed and is_judged(repository):
                return Completed(
                    name="Unchanged", message="no data, code or parameter changed: nothing to do"
                )
            if (
                new_documents is not None
                and is_only_data(changed)
                and not has_drifted(repository, new_documents)
            ):
                return Completed(
                    name="NothingNew",
                    message=f"{new_documents} looks like what the champion was trained on: waiting for more",
                )
            reproducing.bring_all_up_to_date(repository, lock)
            reproducing.publish_comparison(repository)
            decision = judge(repository, promote)
    except pipeline.BusyError as error:
        return Completed(name="Skipped", message=str(error))
    except pipeline.StageFailedError as error:
        publish(f"# Retraining failed, the champion stays\n\n```\n{error}\n```\n", notification_block)
        raise
    publish(report(repository, decision, changed), notification_block)
    name = {"promote": "Promoted", "keep": "Kept"}.get(decision["event"], "Unchanged")
    return Completed(name=name, message=decision["reason"])


@task(task_run_name="drift")
def has_drifted(repository: Path, new_documents: str) -> bool:
    """Ask `precis drift` whether new documents call for a training."""
    return ask_precis(repository, "drift", new_documents, "--fail", other_exit=DRIFTED_EXIT) == DRIFTED_EXIT


@task(task_run_name="gate")
def judge(repository: Path, promote: bool) -> dict[str, Any]:
    """Have `precis promote` try the challenger against the champion; gives its decision."""
    ask_precis(repository, "promote", *([] if promote else ["--dry-run"]), other_exit=KEPT_EXIT)
    decision = read_json(decision_file(repository))
    assert decision is not None
    return decision


def ask_precis(repository: Path, *arguments: str, other_exit: int) -> int:
    """Run a command of precis with its output in the log; another exit code than 0 and `other_exit` is a failure."""
    command = [str(Path(sys.executable).parent / "precis"), *arguments]
    done = subprocess.run(
        command, cwd=repository, env=pipeline.environment(), capture_output=True, text=True, check=False
    )
    log = get_run_logger()
    for line in done.stdout.splitlines():
        log.info(line)
    if done.returncode not in (0, other_exit):
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-pipeline.LAST_WORDS :])
        raise pipeline.StageFailedError(
            f"precis {arguments[0]} failed with exit code {done.returncode}; its last words:\n{last}"
        )
    return done.returncode


def publish(page: str, notification_block: str | None) -> None:
    """Keep the page with the flow run, and tell people; that nobody can be told undoes no promotion."""
    create_markdown_artifact(
        key="retraining", markdown=page, description="What changed, and what the gate decided."
    )
    if tell(page, notification_block, return_state=True).is_failed():
        get_run_logger().error("nobody was told: %s did not take the message", notification_block)


@task(retries=len(NOTIFY_DELAYS), retry_delay_seconds=NOTIFY_DELAYS, task_run_name="notify")
def tell(text: str, block: str | None) -> None:
    """Tell people by a Prefect block; without one, in the log."""
    if block is None:
        get_run_logger().info("%s", text)
        return
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block
    from prefect.blocks.webhook import Webhook

    loaded = Block.load(block)
    if isinstance(loaded, Webhook):
        asyncio.run(loaded.call({"subject": SUBJECT, "text": text})).raise_for_status()
    elif isinstance(loaded, NotificationBlock):
        with loaded.raise_on_failure():
            told = loaded.notify(text, subject=SUBJECT)
            if asyncio.iscoroutine(told):  # some blocks have a synchronous form, some do not
                asyncio.run(told)
    else:
        raise TypeError(f"{block} is neither a notification block nor a webhook")


def may_have_moved(repository: Path) -> bool:
    """Whether the corpus is one of the hub that is not pinned to a commit.

    DVC cannot see that a branch there has a new commit, or that a folder in the hub's layout has new files, so its
    stage has to look. When it finds the rows of last time, nothing is out of date afterwards.
    """
    try:
        params = YAML(typ="safe").load(repository / "params.yaml")
        corpus = params["corpus"]
        is_hub, hub = corpus["source"] == "hub", corpus["hub"]
    except (OSError, YAMLError, KeyError, TypeError):
        return False  # what is wrong with params.yaml, the stages tell
    if not is_hub or not isinstance(hub, dict):
        return False
    is_folder = (repository / str(hub.get("name"))).is_dir()
    return is_folder or COMMIT.fullmatch(str(hub.get("revision"))) is None


def is_only_data(changed: Changes) -> bool:
    """Whether the source of the corpus is all that changed: no code, no parameter, nothing half done."""
    names = {name: kind for of_stage in changed.values() for name, kind in of_stage.items()}
    if set(names) == {SOURCE_OUTPUT}:  # new rows of the hub are there already
        return set(names.values()) == {"file"}
    return set(changed) == {SOURCE_STAGE} and all(
        kind == "file" and not name.startswith(CODE) for name, kind in names.items()
    )


def report(repository: Path, decision: dict[str, Any], changed: Changes) -> str:
    """What a person reads in a minute: the decision, what had changed, and where to look."""
    page = (decision_file(repository).with_suffix(".md")).read_text(encoding="utf-8")
    causes = causes_of(changed)
    told = ", ".join(f"`{name}`" for name in causes[:MOST_TOLD])
    more = f" and {len(causes) - MOST_TOLD} more" if len(causes) > MOST_TOLD else ""
    ran = (
        f"What had changed: {told}{more}."
        if causes
        else "Nothing had changed; the gate had not seen this version."
    )
    hint = "`precis history` shows all decisions, `precis rollback --reason …` goes back one."
    return f"{page}\n{ran}\n\n{hint} `make ui` shows the runs and the versions.\n"


def causes_of(changed: Changes) -> list[str]:
    """What changed by itself: files, parameters and code, but not what the stages make of them."""
    kinds = [(name, kind) for names in changed.values() for name, kind in names.items()]
    made = {name for name, kind in kinds if kind == "output"}
    return sorted({name for name, _ in kinds if not any(f"{name}/".startswith(f"{out}/") for out in made)})


def is_judged(repository: Path) -> bool:
    """Whether the gate has seen the registered version: a crash before the gate must not hide it for ever."""
    registered = read_json(repository / "reports" / "registered.json")
    decision = read_json(decision_file(repository))
    return registered is not None and decision is not None and decision["version"] == registered["version"]


def decision_file(repository: Path) -> Path:
    """Where `precis promote` leaves its last decision."""
    return repository / ".work" / "gate" / "decision.json"


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is none, or none that is whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


if __name__ == "__main__":
    sys.exit(reproducing.run_from_command_line(retrain, Path(__file__)))
