"""What `precis demo` says when there is nothing that it could show."""

import json
import socket
import subprocess
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from demo_process import COMMAND, environment, start, stop
from tiny_model import DECODING, DOCUMENTS, write_model


def start_page(folder: Path) -> dict:
    """What the page learns when it is opened in a project's folder."""
    process, address = start(cwd=folder)
    try:
        with urllib.request.urlopen(f"{address}demo/start") as response:
            return json.load(response)
    finally:
        stop(process)


def test_without_any_model_it_says_what_to_do(tmp_path):
    result = subprocess.run(COMMAND, cwd=tmp_path, capture_output=True, text=True, env=environment())
    assert result.returncode == 1
    assert result.stderr.startswith("error: there is no model to show") and "make repro" in result.stderr
    assert list(tmp_path.iterdir()) == []  # looking for models leaves nothing behind


def test_champion_and_challenger_of_the_registry_are_shown(tmp_path, monkeypatch):
    from precis.registry.packaging import log_package, staged
    from precis.registry.versions import make_version
    from precis.training.tracking import configure, experiment_id

    monkeypatch.chdir(tmp_path)
    client = configure()
    experiment = experiment_id(client, "precis")
    for alias, seed in (("champion", 1), ("challenger", 2)):
        directory = write_model(tmp_path / alias, "pointer", seed)
        with staged(directory, decoding=DECODING) as (package, digest):
            uri = log_package(package, name="pointer", digest=digest, run_id=None, experiment_id=experiment)
        version = make_version(client, "precis", source=uri, run_id=None, tags={"precis.digest": digest})
        client.set_registered_model_alias("precis", alias, str(version.number))
    found = start_page(tmp_path)
    assert [(model["name"], model["about"]) for model in found["models"]] == [
        ("champion", "pointer, version 1"),
        ("challenger", "pointer, version 2"),
    ]
    assert found["models"][0]["decoding"]["max_length"] == DECODING["max_length"]


def test_examples_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "test.parquet").write_text("no parquet")
    result = subprocess.run(
        [*COMMAND, "--examples", "test.parquet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert result.returncode == 1
    assert "test.parquet cannot be read as a prepared split" in result.stderr


def test_models_and_examples_of_the_working_copy_are_found(tmp_path):
    for name in ("pointer", "attention"):
        write_model(tmp_path / "models" / name, name)
    prepared = tmp_path / "data" / "prepared"
    prepared.mkdir(parents=True)
    rows = [
        {"id": str(n), "document": f"{n} {text}", "summary": f"about {n}"} for n, text in enumerate(DOCUMENTS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), prepared / "test.parquet")
    found = start_page(tmp_path)
    assert [model["name"] for model in found["models"]] == ["pointer", "attention"]
    of_corpus = [example for example in found["examples"] if example["reference"]]
    assert {example["reference"] for example in of_corpus} <= {row["summary"] for row in rows}
    assert of_corpus and len(found["examples"]) > len(of_corpus)
    assert not (Path(tmp_path) / "mlflow.db").exists()


def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = subprocess.run(
            [*COMMAND, f"--port={port}"], cwd=tmp_path, capture_output=True, text=True, env=environment()
        )
    assert result.returncode == 1
    assert (
        f"port {port} of 127.0.0.1 cannot be used" in result.stderr
        and "--port names another" in result.stderr
    )
    assert "Traceback" not in result.stderr
