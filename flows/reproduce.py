"""The pipeline as a Prefect flow: DVC's stages, one task each, with logs, retries and a page of results.

    python flows/reproduce.py

Works without a server (Prefect then starts one for the length of the flow) and with PREFECT_API_URL. DVC
decides what there is to do; `dvc repro` leaves the same files.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Prefect reads these when it is imported. Its temporary server takes up to 35 s on a busy machine.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "150")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

import pipeline

NETWORK_STAGES = {"download"}  # what a second try can help
RETRY_DELAYS = [10.0, 60.0]  # seconds


@task(task_run_name="{stage}")
def bring_up_to_date(stage: str, repository: Path, lock: int) -> None:
    """Have DVC run the stage, if anything it depends on has changed."""
    pipeline.run_stage(stage, get_run_logger().info, root=repository, lock=lock)


@flow(name="reproduce", flow_run_name="reproduce-{repository.name}")
def reproduce(repository: Path = pipeline.ROOT) -> None:
    """Bring every stage up to date and show the results."""
    bring_all_up_to_date(repository)
    publish_comparison(repository)


def bring_all_up_to_date(repository: Path) -> None:
    """Every stage in DVC's order; the first that fails ends it."""
    # the training run notes which flow run it belongs to
    os.environ["PRECIS_FLOW_RUN_ID"] = flow_run.id or ""
    with pipeline.pipeline_lock(repository) as lock:
        for stage in pipeline.stages(repository):
            delays = RETRY_DELAYS if stage in NETWORK_STAGES else []
            bring_up_to_date.with_options(retries=len(delays), retry_delay_seconds=delays)(
                stage, repository, lock
            )


def publish_comparison(repository: Path) -> None:
    """Show the table of results with the flow run."""
    page = repository / "reports" / "comparison.md"
    if page.is_file():
        create_markdown_artifact(
            key="comparison",
            markdown=page.read_text(encoding="utf-8"),
            description="The models and baselines side by side, on the test split.",
        )


def main() -> int:
    """Run the flow; the exit code says whether all stages are up to date."""
    if "--supervised" not in sys.argv[1:]:
        # Ctrl-C in a terminal must not reach Prefect's temporary server before the flow has told it the end
        return pipeline.supervise([sys.executable, __file__, "--supervised"], Path.cwd(), leader_first=True)
    pipeline.end_with_parent()
    try:
        reproduce()
    except (pipeline.StageFailedError, pipeline.BusyError, pipeline.LockFileConflictError) as error:
        print(f"error: {error}", file=sys.stderr)
        return pipeline.BUSY_EXIT if isinstance(error, pipeline.BusyError) else 1
    except KeyboardInterrupt:
        print("interrupted: `make flow` goes on where it stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
