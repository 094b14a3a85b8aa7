"""The pipeline as a Prefect flow: DVC's stages, one task each, with logs, retries and a page of results.

    python flows/reproduce.py

Works without a server (Prefect then starts one for the length of the flow) and with PREFECT_API_URL. DVC
decides what there is to do; `dvc repro` leaves the same files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Prefect reads these when it is imported. Its temporary server takes up to 35 s on a busy machine.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "150")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

from prefect import Task, flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run

import pipeline

RETRY_DELAYS = [10.0, 60.0]  # seconds before a stage is tried again that the network failed


def may_succeed_later(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a stage failed for want of another machine: what a person has to mend is not tried again."""
    try:
        state.result()
    except pipeline.StageFailedError as error:
        return error.exit_code == pipeline.TRY_LATER_EXIT
    except Exception:
        return False
    return False


@task(
    task_run_name="{stage}",
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=RETRY_DELAYS,
    retry_condition_fn=may_succeed_later,
)
def bring_up_to_date(stage: str, repository: Path, lock: int, force: bool = False) -> None:
    """Have DVC run the stage, if anything it depends on has changed, or in any case."""
    pipeline.run_stage(stage, get_run_logger().info, root=repository, lock=lock, force=force)


def called_by_its_time() -> str:
    """What a flow run is called in the UI: its flow, and when it was due."""
    return f"{flow_run.flow_name} {flow_run.scheduled_start_time:%Y-%m-%d %H:%M:%S}"


@flow(name="reproduce", flow_run_name=called_by_its_time)
def reproduce(repository: Path = pipeline.ROOT) -> None:
    """Bring every stage up to date and show the results."""
    name_flow_run()
    with pipeline.pipeline_lock(repository) as lock:
        for sentence in pipeline.repair(repository):
            get_run_logger().warning("repaired: %s", sentence)
        bring_all_up_to_date(repository, lock)
    publish_comparison(repository)


def name_flow_run() -> None:
    """Let training runs and promotions note which flow run started them."""
    os.environ["PRECIS_FLOW_RUN_ID"] = flow_run.id or ""
    os.environ["PRECIS_FLOW_RUN_URL"] = flow_run.ui_url or ""


def bring_all_up_to_date(repository: Path, lock: int) -> None:
    """Every stage in DVC's order; the first that fails ends it."""
    for stage in pipeline.stages(repository):
        bring_up_to_date(stage, repository, lock)
    pipeline.deliver_what_waits(repository)


def publish_comparison(repository: Path) -> None:
    """Show the table of results with the flow run."""
    page = repository / "reports" / "comparison.md"
    if page.is_file():
        create_markdown_artifact(
            key="comparison",
            markdown=page.read_text(encoding="utf-8"),
            description="The models and baselines side by side, on the test split.",
        )


def run_from_command_line(flow_to_run: Callable[[], object], script: Path) -> int:
    """Run a flow in a process of its own; the exit code says whether it came to its end.

    Ctrl-C in a terminal must not reach Prefect's temporary server before the flow has told it the end.
    """
    if "--supervised" not in sys.argv[1:]:
        return pipeline.supervise(
            [sys.executable, str(script), "--supervised"], Path.cwd(), leader_first=True
        )
    pipeline.end_with_parent()
    try:
        flow_to_run()
    except (pipeline.StageFailedError, pipeline.BusyError, pipeline.LockFileConflictError) as error:
        print(f"error: {error}", file=sys.stderr)
        return pipeline.BUSY_EXIT if isinstance(error, pipeline.BusyError) else 1
    except KeyboardInterrupt:
        print("interrupted: the next run goes on where this one stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run_from_command_line(reproduce, Path(__file__)))
