"""From a summary of the finished project back to its bytes, and what verify says when one of them changes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def chain(finished_project):
    """The saved trace of a summary of the test split."""
    summaries = (finished_project.folder / "reports/pointer/summaries.jsonl").read_text().splitlines()
    document = json.loads(summaries[0])
    finished_project.run("precis", "trace", "models:/precis@challenger", "--document", document["id"])
    trace = finished_project.json(".work/traces/precis-1.json")
    assert trace["document"]["summary"] == document["summary"]
    return trace


def test_a_summary_leads_to_its_version_run_commit_and_row(finished_project, chain):
    from mlflow import MlflowClient

    run = MlflowClient(f"sqlite:///{finished_project.folder / 'mlflow.db'}").get_run(chain["run"])
    assert run.data.tags["precis.fingerprint"] == chain["fingerprint"]
    head = finished_project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert chain["git_commit"] == head
    rows = (finished_project.folder / "data/source/tickets.jsonl").read_text().splitlines()
    source = {row["id"]: row for row in map(json.loads, rows)}
    row = chain["document"]["row"]
    assert row["document"] == source[row["id"]]["document"]
    assert sum(chain["rows"].values()) == 300
    assert {stage["name"] for stage in chain["stages"]} == {
        "download", "prepare", "vocabulary", "encode", "train@pointer", "evaluate@pointer",
    }  # fmt: skip


def test_a_summary_in_a_file_is_traced_by_the_run_it_names(finished_project, chain):
    file = finished_project.folder / ".work" / "summary.json"
    file.write_text(json.dumps({"summary": "…", "model_version": "1", "run_id": chain["run"]}))
    assert "precis 1, a pointer model" in finished_project.run("precis", "trace", str(file)).stdout


@pytest.fixture(scope="module")
def letter(finished_project):
    """A document that is in no corpus, and what the registered model answered."""
    file = finished_project.folder / ".work" / "letter.txt"
    file.write_text("Good morning, this is Zorblax. My order B77123 came today. The lamp is broken.\n")
    done = finished_project.run(
        "precis", "summarize", "--jsonl", "--model", "models:/precis@challenger", str(file)
    )
    return file, json.loads(done.stdout)


def saved_trace(project, summary_id):
    return project.json(f".work/traces/{summary_id}.json")


def test_the_id_of_an_answer_leads_to_the_version_and_with_its_document_to_the_summary(
    finished_project, chain, letter
):
    file, answer = letter
    told = finished_project.run("precis", "trace", answer["summary_id"]).stdout
    assert "summary     not kept" in told
    assert "document    not in the corpus" in told
    trace = saved_trace(finished_project, answer["summary_id"])
    for key in ("version", "run", "git_commit", "fingerprint", "stages", "rows"):
        assert trace[key] == chain[key]
    assert str(trace["version"]["number"]) == answer["model_version"]
    told = finished_project.run("precis", "trace", answer["summary_id"], "--text", str(file)).stdout
    assert repr(answer["summary"]) in told
    assert "the version gives the same summary again" in told


def test_an_answer_in_a_file_is_traced_and_a_changed_one_is_not(finished_project, letter):
    _, answer = letter
    file = finished_project.folder / ".work" / "answer.json"
    file.write_text(json.dumps({"predictions": [answer]}))
    assert repr(answer["summary"]) in finished_project.run("precis", "trace", str(file)).stdout
    file.write_text(json.dumps({**answer, "summary": answer["summary"] + "!"}))
    refused = finished_project.run("precis", "trace", str(file), check=False)
    assert refused.returncode == 1
    assert "it was changed since" in refused.stderr


def test_an_answer_about_another_document_is_told_so(finished_project, letter):
    file, answer = letter
    other = file.with_name("other.txt")
    other.write_text(file.read_text().replace("B77123", "B77124"))
    refused = finished_project.run("precis", "trace", answer["summary_id"], "--text", str(other), check=False)
    assert refused.returncode == 1
    assert "is not the document that sum-" in refused.stderr


def test_the_served_model_gives_ids_that_lead_to_the_row_of_the_corpus(finished_project, chain):
    row = chain["document"]["row"]
    code = (
        "import json, sys, mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/precis@challenger')\n"
        "print(json.dumps(model.predict([sys.argv[1]], params={'provenance': True})))\n"
    )
    environment = {
        **finished_project.environment,
        "MLFLOW_TRACKING_URI": f"sqlite:///{finished_project.folder / 'mlflow.db'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, row["document"]], env=environment, capture_output=True, text=True
    )
    (answer,) = json.loads(done.stdout.splitlines()[-1])
    told = finished_project.run("precis", "trace", answer["summary_id"]).stdout
    assert f"row         {row['id']} of {row['split']}" in told
    assert repr(answer["summary"]) in told


def test_an_id_of_no_model_here_is_one_message(finished_project):
    refused = finished_project.run(
        "precis", "trace", f"sum-{'0' * 12}-{'0' * 16}-{'0' * 8}-{'0' * 8}", check=False
    )
    assert refused.returncode == 1
    assert "no version of precis has, and no model in models/" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_trace_shows_the_rows_of_its_version_after_the_corpus_has_changed(finished_project, chain):
    """Out of DVC's cache: the working copy has other rows by now."""
    raw = finished_project.folder / "data/raw"
    for path in raw.glob("*.parquet"):
        path.rename(path.with_suffix(".away"))
    try:
        told = finished_project.run(
            "precis", "trace", "1", "--document", chain["document"]["row"]["id"]
        ).stdout
    finally:
        for path in raw.glob("*.away"):
            path.rename(path.with_suffix(".parquet"))
    for split, number in chain["rows"].items():
        assert f"{number:,} {split}" in told
    assert repr(chain["document"]["summary"]) in told


def test_all_links_hold(finished_project):
    assert "all links hold" in finished_project.run("precis", "verify", "models:/precis@challenger").stdout


def files_of(folder: Path):
    """A file for each link: what was packaged, what each stage wrote, and DVC's copies of the same."""
    (artifacts,) = (folder / "mlartifacts").glob("models/*/artifacts/artifacts/model")
    yield "package", artifacts / "model.safetensors"
    yield "package", artifacts / "shared.txt"
    yield "package", artifacts / "manifest.json"
    yield "lineage", artifacts.parents[1] / "lineage.json"
    for name, path in (
        ("download: data/raw", "data/raw/train.parquet"),
        ("prepare: data/prepared", "data/prepared/test.parquet"),
        ("vocabulary: data/vocabulary", "data/vocabulary/shared.txt"),
        ("encode: data/encoded", "data/encoded/train.arrow"),
        ("train@pointer: models/pointer", "models/pointer/model.safetensors"),
        ("evaluate@pointer: reports/pointer/summaries.jsonl", "reports/pointer/summaries.jsonl"),
        ("evaluate@pointer: reports/pointer/metrics.json", "reports/pointer/metrics.json"),
    ):
        yield name, folder / path


def in_cache(folder: Path, path: Path) -> Path:
    import hashlib

    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    return folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def flip(path: Path) -> bytes:
    """Flip one bit in the middle, whatever the file's permissions; gives the bytes before."""
    before = path.read_bytes()
    damaged = bytearray(before)
    damaged[len(damaged) // 2] ^= 1
    write(path, bytes(damaged))
    return before


def write(path: Path, content: bytes) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def first_broken_link(project) -> str:
    """What verify names; in this process, as starting one for each file would take minutes."""
    from precis.registry.lineage import verify
    from precis.registry.resolve import resolve
    from precis.training import tracking

    client = tracking.configure()
    version = resolve(client, "models:/precis@challenger", "precis")
    return next((link.name for link in verify(client, version, project.folder) if link.state == "failed"), "")


def test_one_flipped_bit_is_named_at_each_link_in_turn(finished_project, monkeypatch):
    folder = finished_project.folder
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    assert first_broken_link(finished_project) == ""
    for name, path in files_of(folder):
        places = [path] if name in ("package", "lineage") else [path, in_cache(folder, path)]
        for place in places:
            before = flip(place)
            found = first_broken_link(finished_project)
            write(place, before)
            assert found == name, f"after a flip in {place}"
    assert first_broken_link(finished_project) == ""


def test_verify_exits_with_1_and_names_the_link(finished_project):
    path = finished_project.folder / "data/encoded/train.arrow"
    before = flip(path)
    done = finished_project.run("precis", "verify", "models:/precis@challenger", check=False)
    write(path, before)
    assert done.returncode == 1
    assert "error: the chain of models:/precis/1 breaks at encode: data/encoded" in done.stderr


def test_a_fully_cached_run_makes_no_run_and_leaves_all_links_valid(finished_project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{finished_project.folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    before = len(client.search_runs(experiments))
    for out in ("models/pointer", "reports/pointer", "data/encoded"):
        finished_project.run("rm", "-rf", out)
    finished_project.run("dvc", "repro", "register")
    assert len(client.search_runs(experiments)) == before
    assert [version.version for version in client.search_model_versions("name='precis'")] == [1]
    assert "all links hold" in finished_project.run("precis", "verify", "models:/precis@challenger").stdout


@pytest.mark.slow
def test_a_registered_model_is_reproduced_byte_for_byte(finished_project):
    done = finished_project.run("precis", "reproduce", "models:/precis@challenger", timeout=500)
    assert "byte-equal" in done.stdout
