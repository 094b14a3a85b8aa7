"""What a client of the served model gets, over HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from precis.serving.summarizer import Summarizer
from precis.stages.register import register

DOCUMENTS = ["The Meeting moved to Friday\r\nbecause Zoë's room — no. 7 — floods.", ""]


@pytest.fixture
def registered(client, make_model):
    directory = make_model(generation="pointer_only")
    decoding = json.loads((directory / "text.json").read_text())["decoding"]
    where = Path("models"), Path("reports"), Path("reports/registered.json")
    register(*where, name="precis", metric="rouge1", experiment="precis", decoding=decoding)
    return directory


def with_sources(answers: list[dict]) -> None:
    """Checks that every copied word stands where the answer says, in the text as it was sent."""
    copied = 0
    for document, answer in zip(DOCUMENTS, answers, strict=True):
        for token in answer["tokens"]:
            assert answer["summary"][token["start"] : token["end"]] == token["text"]
            assert token["generated"] + token["copied"] == pytest.approx(token["probability"], abs=1e-5)
            start, end = token["source"]
            assert document[start:end] == token["text"]
            copied += 1
    assert copied > 0


def test_the_scoring_server_gives_summaries_and_on_request_their_sources(registered):
    import mlflow
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    expected = [summary.text for summary in Summarizer.load(registered).summarize(DOCUMENTS)]
    model = mlflow.pyfunc.load_model("models:/precis@challenger")
    assert model.predict(DOCUMENTS) == expected
    assert set(model.metadata.get_params_schema().to_dict()[0]) >= {"name", "type", "default"}
    with TestClient(init(model)) as http:
        plain = http.post("/invocations", json={"inputs": DOCUMENTS})
        assert plain.json() == {"predictions": expected}
        asked = http.post("/invocations", json={"inputs": DOCUMENTS, "params": {"provenance": True}})
        answers = asked.json()["predictions"]
        assert [answer["summary"] for answer in answers] == expected
        with_sources(answers)
        greedy = http.post("/invocations", json={"inputs": DOCUMENTS, "params": {"beam_size": 1}})
        assert greedy.json()["predictions"] == [
            summary.text for summary in Summarizer.load(registered).summarize(DOCUMENTS, beam_size=1)
        ]
        wrong = http.post("/invocations", json={"inputs": DOCUMENTS, "params": {"provenance": "perhaps"}})
        assert wrong.status_code == 400


@pytest.mark.slow
def test_mlflow_models_serve_gives_sources(registered):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bin_folder = Path(sys.executable).parent
    command = ["mlflow", "models", "serve", "-m", "models:/precis@challenger", "-p", str(port)]
    server = subprocess.Popen(
        [bin_folder / command[0], *command[1:], "--env-manager", "local"],
        env={**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        start_new_session=True,
    )
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps({"inputs": DOCUMENTS, "params": {"provenance": True}}).encode(),
            {"Content-Type": "application/json"},
        )
        deadline = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    with_sources(json.load(answer)["predictions"])
                break
            except (urllib.error.URLError, ConnectionError):
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(1)
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
