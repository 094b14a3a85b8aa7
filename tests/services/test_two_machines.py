"""The pipeline, the gate and the retraining of two working copies at once, on shared stores."""

import json
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from project import Project, write_tickets
from real_stores import move_corpus

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(2400)]
NAME = "team"


@pytest.fixture(scope="module")
def copies(stores, tmp_path_factory):
    """Two working copies whose corpora differ, after a retraining of both at once; and what each printed."""
    found = []
    for number in (1, 2):
        project = Project(
            tmp_path_factory.mktemp("copies") / "tickets", num_rows=250, stores=stores.environment
        )
        write_tickets(project.folder / "data" / "source" / "tickets.jsonl", 250, seed=number)
        project.set_params({"registry": {"name": NAME}, "tracking": {"experiment": NAME}})
        project.keep_only("pointer")
        move_corpus(project, stores, f"corpora/{number}")
        found.append(project)
    retrain(*found)
    return found


def retrain(*projects):
    """Run the flow in all of them at once; who is told that another one has promoted meanwhile runs it again."""
    running = [project.start("python", "flows/retrain.py") for project in projects]
    ends = [(process.communicate(timeout=1800)[0], process.returncode) for process in running]
    late = [project for project, (_, code) in zip(projects, ends, strict=True) if code != 0]
    assert len(late) < len(projects), ends
    assert all("the champion is now version" in told for told, code in ends if code != 0), ends
    for project in late:
        project.run("python", "flows/retrain.py")


def records(project):
    done = project.run("precis", "history", "--json", check=False)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def test_each_has_a_version_and_one_is_champion(copies):
    versions = [project.json("reports/registered.json")["version"] for project in copies]
    assert sorted(versions) == [1, 2]
    history = records(copies[0])
    assert history == records(copies[1])
    assert {record["version"] for record in history} == {1, 2}
    assert [record["number"] for record in history] == list(range(1, len(history) + 1))
    assert all(after["champion_before"] == before["champion_after"] for before, after in pairwise(history))
    champion = history[-1]["champion_after"]
    for project in copies:
        traced = project.run("precis", "trace", f"models:/{NAME}@champion").stdout
        assert f"version     {NAME} {champion}," in traced


def test_no_figure_of_either_training_is_lost(copies, stores):
    for project in copies:
        script = (
            "import csv, json\n"
            "from precis.training.tracking import configure, find_run, read_fingerprint\n"
            "client = configure()\n"
            "run = find_run(client, read_fingerprint('models/pointer'))\n"
            "rows = list(csv.DictReader(open('models/pointer/history.csv')))\n"
            "for name in ('train_loss', 'validation_loss'):\n"
            "    here = {int(row['step']): float(row[name]) for row in rows if row[name]}\n"
            "    kept = client.get_metric_history(run.info.run_id, name)\n"
            "    assert here and here == {point.step: float(f'{point.value:.6g}') for point in kept}, name\n"
            "    assert len(here) == len(kept)\n"
            "assert run.info.status == 'FINISHED' and run.info.artifact_uri.startswith('s3://precis/mlflow/team/')\n"
            "assert 'test_rouge1' in run.data.metrics\n"
        )
        project.run("python", "-c", script)
        assert (
            "all links hold"
            in project.run(
                "precis", "verify", f"models:/{NAME}/{project.json('reports/registered.json')['version']}"
            ).stdout
        )


def test_a_champion_of_the_store_answers(copies):
    done = subprocess.run(
        ["precis", "summarize", "-", "--model", f"models:/{NAME}@champion"],
        input="hello, this is Bakule. My order B12345 came today. The lamp is broken.\n",
        cwd=copies[0].folder,
        env=copies[0].environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


def test_the_remote_takes_both_and_a_third_copy_has_nothing_to_run(copies, tmp_path):
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for project in copies:
        project.run("dvc", "remote", "add", "--default", "store", "s3://precis/dvc")
        project.run("git", "add", "-A")
        project.run("git", *who, "commit", "-qm", "Results")
    pushing = [project.start("dvc", "push") for project in copies]
    for process in pushing:
        told, _ = process.communicate(timeout=600)
        assert process.returncode == 0, told
    for number, project in enumerate(copies):
        clone = tmp_path / str(number)
        for command in (
            ("git", "clone", "-q", str(project.folder), str(clone)),
            ("dvc", "-q", "pull", "--allow-missing"),
        ):
            subprocess.run(
                command,
                cwd=clone if clone.exists() else tmp_path,
                env=project.environment,
                check=True,
                timeout=600,
            )
        done = subprocess.run(
            ["dvc", "status", "--json"], cwd=clone, env=project.environment, capture_output=True, text=True
        )
        assert json.loads(done.stdout) == {}, done.stdout
        weights = Path("models/pointer/model.safetensors")
        assert (clone / weights).read_bytes() == (project.folder / weights).read_bytes()


def test_new_files_in_the_store_are_trained_on_and_nothing_else_is(copies, stores, tmp_path):
    first, second = copies
    before = records(first)
    weights = [(project.folder / "models/pointer/model.safetensors").read_bytes() for project in copies]
    more = tmp_path / "more.jsonl"
    write_tickets(more, 60, seed=9)
    more.write_text(more.read_text().replace('"ticket-', '"later-'))
    stores.bucket().upload_file(str(more), "corpora/1/more.jsonl")
    retrain(first, second)
    assert (first.folder / "models/pointer/model.safetensors").read_bytes() != weights[0]
    assert (second.folder / "models/pointer/model.safetensors").read_bytes() == weights[1]
    after = records(first)
    assert after[: len(before)] == before and 3 in {record["version"] for record in after[len(before) :]}


def test_no_password_is_in_what_was_written(copies, stores):
    secrets = [
        (stores.folder / "pgpass").read_text().strip().rpartition(":")[2].encode(),
        (stores.folder / "aws-credentials").read_text().split(" = ")[-1].strip().encode(),
    ]
    for project in copies:
        for path in project.folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not any(secret in content for secret in secrets), path
    tables = subprocess.run(
        ["python", "-c", DUMP], env=copies[0].environment, capture_output=True, text=True, check=True
    ).stdout
    assert "pointer" in tables and not any(secret.decode() in tables for secret in secrets)


DUMP = """
import os
from sqlalchemy import MetaData, create_engine
for variable in ("MLFLOW_TRACKING_URI", "PREFECT_API_DATABASE_CONNECTION_URL"):
    engine = create_engine(os.environ[variable].replace("+asyncpg", ""))
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            for row in connection.execute(table.select()):
                print(table.name, *row)
"""
