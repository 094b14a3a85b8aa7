"""Two working copies register at once, one promotes, another one serves: versions in PostgreSQL, their files in S3."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_model import DECODING, DOCUMENTS, write_model

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]
REGISTER = """
import json, sys, time
from pathlib import Path
from precis.stages.register import register

decoding = json.loads(Path("models/pointer/text.json").read_text())["decoding"]
ready, go = Path("ready"), Path(sys.argv[1])
import mlflow.pyfunc, torch  # which take the time
ready.touch()
while not go.exists():
    time.sleep(0.01)
version = register(
    Path("models"), Path("reports"), Path("reports/registered.json"), name="at once", metric="rouge1",
    experiment="at once", decoding=decoding,
)
print(version.number)
"""
PROMOTE = """
from precis.registry import promotion
from precis.registry.versions import all_versions
from precis.training.tracking import configure

client = configure()
for version in all_versions(client, "at once"):
    champion = promotion.champion_of(client, "at once")
    expected = champion.number if champion is not None else None
    promotion.promote(client, "at once", version.number, expected_champion=expected, reason="better")
print([version.source for version in all_versions(client, "at once")])
"""
SERVE = """
import json, sys
from precis import Summarizer

model = Summarizer.load("models:/at once@champion")
print(json.dumps([model.summarize(text).text for text in json.loads(sys.stdin.read())]))
"""
LOAD = """
import json, sys
from precis import Summarizer

model = Summarizer.load("models/pointer")
print(json.dumps([model.summarize(text).text for text in json.loads(sys.stdin.read())]))
"""


@pytest.fixture
def environment(stores):
    dropped = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, **stores.environment, "OMP_NUM_THREADS": "1"}


def write_copy(folder, seed):
    directory = write_model(folder / "models" / "pointer", "pointer", seed)
    (directory / "run.json").write_text(json.dumps({"fingerprint": f"pointer-{seed}", "model": "pointer"}))
    (folder / "reports" / "pointer").mkdir(parents=True)
    (folder / "reports" / "pointer" / "metrics.json").write_text(json.dumps({"rouge1": 30.0 + seed}))
    return folder


def run(code, folder, environment, *arguments, text=None):
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_each_gets_a_version_and_the_champion_answers_elsewhere(environment, tmp_path):
    go = tmp_path / "go"
    copies = [write_copy(tmp_path / str(seed), seed) for seed in (1, 2)]
    # the second one twice: the same bytes are one version, whoever is first
    copies.append(write_copy(tmp_path / "2 again", 2))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", REGISTER, str(go)],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder in copies
    ]
    while not all((folder / "ready").exists() for folder in copies):
        assert all(process.poll() is None for process in running)
        time.sleep(0.1)
    go.touch()
    told = [process.communicate(timeout=600) for process in running]
    assert all(process.returncode == 0 for process in running), told
    first, second, again = (int(out.splitlines()[-1]) for out, _ in told)
    assert {first, second} == {1, 2} and again == second
    assert not any((folder / "mlruns").exists() or (folder / "mlartifacts").exists() for folder in copies)

    sources = run(PROMOTE, copies[0], environment)
    assert sources.count("'models:/m-") == 2
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    texts = json.dumps(DOCUMENTS[:3])
    champion = json.loads(run(SERVE, elsewhere, environment, text=texts))
    assert champion == json.loads(run(LOAD, copies[[first, second].index(2)], environment, text=texts))
    assert any(champion) and DECODING["beam_size"] > 1


def test_its_files_are_in_the_bucket(stores):
    keys = [found.key for found in stores.bucket().objects.filter(Prefix="mlflow/at%20once/")]
    assert sum(Path(key).name == "model.safetensors" for key in keys) == 2
    assert sum(Path(key).name == "evidence.json" for key in keys) == 0
