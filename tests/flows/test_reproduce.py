import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from reproduce import bring_up_to_date, reproduce

import pipeline

pytestmark = pytest.mark.usefixtures("server")


def run(repository):
    state = reproduce(repository=repository, return_state=True)
    flow_run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])))
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        )
    tasks.sort(key=lambda task_run: task_run.start_time)
    return state, [task_run.name for task_run in tasks], artifacts


def test_each_stage_is_a_task_and_the_results_an_artifact(repository):
    state, tasks, artifacts = run(repository)
    assert state.is_completed()
    assert tasks == ["download", "train@small", "train@large", "report"]
    assert [artifact.data for artifact in artifacts if artifact.key == "comparison"] == ["| results |\n" * 2]
    assert (repository / "dvc.lock").exists()


def test_a_failing_stage_fails_the_flow_with_its_last_words(make_repository):
    graph = (
        "stages:\n  broken:\n    cmd: echo 'error - the disk is full' >&2; exit 1\n    outs: [a.txt]\n"
        "  after:\n    cmd: cat a.txt > b.txt\n    deps: [a.txt]\n    outs: [b.txt]\n"
    )
    state, tasks, artifacts = run(make_repository(graph))
    assert state.is_failed()
    with pytest.raises(pipeline.StageFailedError, match="error - the disk is full"):
        state.result()
    assert tasks == ["broken"]
    assert "comparison" not in [artifact.key for artifact in artifacts]


@pytest.mark.parametrize(("exit_code", "attempts"), [(75, 3), (1, 1)])
def test_only_what_the_network_failed_is_tried_again(make_repository, monkeypatch, exit_code, attempts):
    """`download` ends with 75 when no machine answered, and with 1 when params.yaml is wrong."""
    monkeypatch.setattr(bring_up_to_date, "retry_delay_seconds", [0.0, 0.0])
    graph = f"stages:\n  download:\n    cmd: echo tried >> ../tries; exit {exit_code}\n    outs: [raw.txt]\n"
    root = make_repository(graph)
    state, _, _ = run(root)
    assert state.is_failed()
    assert (root.parent / "tries").read_text().count("tried") == attempts
