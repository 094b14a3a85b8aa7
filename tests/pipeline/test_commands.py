"""Commands as processes, in a project whose pipeline has run."""

import copy
import json
import re
import shutil

import pyarrow.parquet as pq
import pytest
from project import Project

from precis.training.tracking import configure


@pytest.fixture(scope="module")
def project(finished_project, tmp_path_factory) -> Project:
    """A copy: what these tests change is theirs."""
    project = copy.copy(finished_project)
    project.folder = tmp_path_factory.mktemp("commands") / "tickets"
    shutil.copytree(finished_project.folder, project.folder, symlinks=True)
    return project


def run(project: Project, *arguments: str, code: int = 0) -> str:
    """Run `precis ARGUMENTS` and give what it printed: on standard error, if it was to fail."""
    done = project.run("precis", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_model_becomes_champion_and_goes_back_again(project, monkeypatch):
    assert "no history yet" in run(project, "history")
    assert "error: --without-gate needs a --reason" in run(project, "promote", "--without-gate", code=1)
    done = project.run("precis", "promote", "--dry-run", "--json", check=False)
    decided = json.loads(done.stdout)
    assert done.returncode == (0 if decided["event"] == "promote" else 3)
    assert decided["version"] == 1 and decided["evidence"]["checks"]
    told = run(project, "promote", "--without-gate", "--reason", "first", "--json")
    assert json.loads(told)["event"] == "promote"
    assert run(project, "rollback", "--reason", "worse", code=1).startswith("error: ")
    # a second version of the same files
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    client = configure(project.folder)
    first = client.get_model_version("precis", "1")
    client.create_model_version("precis", first.source, run_id=first.run_id, tags=first.tags)
    run(project, "promote", "--version", "2", "--without-gate", "--reason", "second")
    assert "version 1 of precis is champion again" in run(project, "rollback", "--reason", "worse")
    events = [json.loads(line) for line in run(project, "history", "--json").splitlines()]
    assert [(one["event"], one["champion_after"]) for one in events] == [
        ("promote", 1), ("promote", 2), ("rollback", 1)
    ]  # fmt: skip


def test_a_chain_is_told_as_json(project):
    chain = json.loads(run(project, "trace", "models:/precis/1", "--json"))
    assert chain["version"]["number"] == 1 and chain["git_commit"]
    assert "nothing is called precis@nobody" in run(project, "trace", "models:/precis@nobody", code=1)
    links = [json.loads(line) for line in run(project, "verify", "models:/precis/1", "--json").splitlines()]
    assert "failed" not in {link["state"] for link in links} and len(links) > 3
    assert "nothing is called" in run(project, "verify", "models:/precis@nobody", code=1)


def test_a_file_of_ones_own_is_scored_as_the_test_split_is(project, tmp_path):
    rows = pq.read_table(project.folder / "data/prepared/test.parquet").to_pylist()
    file = tmp_path / "labelled.jsonl"
    lines = [{"key": row["id"], "text": row["document"], "title": row["summary"]} for row in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"key": "x", "text": "no title"}]))
    columns = ["--document", "text", "--summary", "title", "--id", "key"]
    metrics = json.loads(run(project, "evaluate", str(file), *columns, "--json", "--out", "own"))
    expected = project.json("reports/pointer/metrics.json")
    for name in ("rouge1", "rouge2", "rougeL", "rouge1_low", "oov_recall", "num_documents"):
        assert metrics[name] == pytest.approx(expected[name]), name
    assert metrics["left_out"] == 1
    compared = json.loads(
        run(project, "compare", "pointer", "own", "--json", "--no-log", "--output", "c.html")
    )
    assert compared["documents"] == len(rows) and compared["signature"] == metrics["signature"]
    told = run(project, "evaluate", str(file), "--document", "txet", "--summary", "title", code=1)
    assert "did you mean `text`?" in told
    assert "'nobody' is no folder with metrics.json" in run(project, "compare", "pointer", "nobody", code=1)


def test_decoding_is_swept_and_the_test_split_refused(project):
    best = json.loads(run(project, "sweep", "--documents", "10", "--beams", "1,2", "--no-log", "--json"))
    assert best["beam_size"] in (1, 2)
    told = run(project, "sweep", "--split", "data/prepared/test.parquet", code=1)
    assert "is the test split" in told


def test_drift_is_told_by_the_exit_code_if_asked(project, tmp_path):
    odd = tmp_path / "odd.jsonl"
    odd.write_text(
        "".join(json.dumps({"document": f"quantum flux {n} entanglement " * 40}) + "\n" for n in range(200))
    )
    found = json.loads(run(project, "drift", str(odd), "--json"))
    assert found["verdict"] != "nothing"
    done = project.run("precis", "drift", str(odd), "--fail", check=False)
    assert done.returncode == 2 and found["verdict"] in done.stdout
    assert "not found" in run(project, "drift", "nowhere.jsonl", code=1)


def test_recipes_and_proposals(project):
    before = (project.folder / "params.yaml").read_text()
    assert re.search(r"^xsum ", run(project, "recipe", "list"), re.MULTILINE)
    assert "there is no recipe 'nope'; there are:" in run(project, "recipe", "nope", code=1)
    told = run(project, "init", "data/source/tickets.jsonl", "--no-write")
    assert "Proposed for params.yaml" in told and "`document`" in told
    assert "not found" in run(project, "init", "data/source/nothing.jsonl", code=1)
    assert (project.folder / "params.yaml").read_text() == before


def test_training_again_does_nothing_and_an_unknown_model_is_told(project, tmp_path):
    assert "Stage 'train@pointer' didn't change, skipping" in run(project, "train", "pointer")
    assert "there is no model transformer; there are encoder_decoder" in run(
        project, "train", "transformer", code=1
    )
    (project.folder / "elsewhere").mkdir()
    done = project.run("sh", "-c", "cd elsewhere && precis train", check=False)
    assert done.returncode == 1 and "flows/pipeline.py not found" in done.stderr


def test_an_exported_model_answers_as_the_model_does(project):
    pytest.importorskip("onnxruntime")
    file = project.folder / "one.txt"
    file.write_text("Hello, this is Brako. My order C12345 came today. The lamp is broken.")
    run(project, "export", "models:/precis/1", "--out", "exported")
    answers = [
        run(project, "summarize", "--jsonl", "--model", model, str(file))
        for model in ("models:/precis/1", "exported")
    ]
    found = [json.loads(answer) for answer in answers]
    assert found[0]["summary"] and found[0]["summary_id"] == found[1]["summary_id"]
    assert found[0]["model_version"] == found[1]["model_version"] == "1"
    assert "nowhere not found" in run(project, "export", "nowhere", "--out", "x", code=1)


def test_what_is_wrong_is_told_as_json_by_the_doctor(project):
    params = project.folder / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("beam_size: 4", "beam_size: many"))
    try:
        done = project.run("precis", "doctor", "--json", check=False)
    finally:
        params.write_text(before)
    checks = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1 and "beam_size" in checks["params.yaml"]["problems"][0]["found"]
    assert checks["lock files"]["ok"]
