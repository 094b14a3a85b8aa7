import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from precis.commands.promote import challenger_of
from precis.errors import PrecisError
from precis.registry.packaging import unpacked
from precis.registry.versions import all_versions, find_alias
from precis.serving.summarizer import Summarizer
from precis.stages.register import register

DOCUMENT = "The meeting moved to Friday because room seven floods."


def register_best(decoding=None, metric="rouge1"):
    from_text = json.loads(next(Path("models").glob("*/text.json")).read_text())["decoding"]
    return register(
        Path("models"),
        Path("reports"),
        Path("reports/registered.json"),
        name="precis",
        metric=metric,
        experiment="precis",
        decoding=decoding or from_text,
    )


def finished_run(client, fingerprint):
    experiment = client.create_experiment("training", artifact_location=str(Path("mlartifacts").resolve()))
    run = client.create_run(
        experiment, tags={"precis.fingerprint": fingerprint, "mlflow.source.git.commit": "c0ffee"}
    )
    client.set_terminated(run.info.run_id)
    return client.get_run(run.info.run_id)


def test_a_registered_model_summarizes_in_a_fresh_process_elsewhere(client, make_model, tmp_path):
    directory = make_model()
    register_best()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import json, mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/precis@challenger')\n"
        f"print(json.dumps(model.predict([{DOCUMENT!r}])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (summary,) = json.loads(done.stdout.splitlines()[-1])
    assert summary == Summarizer.load(directory).summarize([DOCUMENT])[0].text


def test_the_best_model_by_the_metric_becomes_challenger_and_no_champion_is_made(client, make_model):
    make_model("attention", rouge1=20.0)
    make_model("pointer", rouge1=30.0)
    make_model("encoder_decoder", rouge1=10.0)
    version = register_best()
    assert version.tags["precis.model"] == "pointer"
    assert find_alias(client, "precis", "challenger") == version
    assert find_alias(client, "precis", "champion") is None
    registered = json.loads(Path("reports/registered.json").read_text())
    assert (registered["model"], registered["version"], registered["value"]) == ("pointer", 1, 30.0)


def test_an_unchanged_model_gets_no_second_version_and_the_same_report(client, make_model):
    make_model()
    register_best()
    first = Path("reports/registered.json").read_bytes()
    register_best()
    assert Path("reports/registered.json").read_bytes() == first
    assert [version.number for version in all_versions(client, "precis")] == [1]


def test_an_earlier_model_that_comes_back_is_challenger_again(client, make_model):
    make_model(seed=1)
    register_best()
    make_model(seed=2)
    assert register_best().number == 2
    make_model(seed=1)
    assert register_best().number == 1
    assert find_alias(client, "precis", "challenger").number == 1


def test_a_registration_out_of_dvcs_cache_makes_its_version_challenger_again(client, make_model):
    """DVC does not run `register` when it has its output from an earlier run with the same inputs."""
    make_model(seed=1)
    register_best()
    earlier = Path("reports/registered.json").read_bytes()
    make_model(seed=2)
    register_best()
    assert challenger_of(client, "precis", move=True).number == 2
    Path("reports/registered.json").write_bytes(earlier)
    assert challenger_of(client, "precis", move=False).number == 1
    assert find_alias(client, "precis", "challenger").number == 2, "a dry run moves nothing"
    assert challenger_of(client, "precis", move=True).number == 1
    assert find_alias(client, "precis", "challenger").number == 1


def test_other_decoding_is_another_version_and_is_what_the_version_serves(client, make_model):
    directory = make_model()
    decoding = json.loads((directory / "text.json").read_text())["decoding"]
    register_best()
    version = register_best({**decoding, "max_length": 3})
    assert version.number == 2
    with unpacked(version.uri, digest=version.digest) as files:
        assert Summarizer.load(files).decoding["max_length"] == 3


def test_a_version_belongs_to_its_training_run_which_stays_as_it_was(client, make_model):
    make_model(seed=7)
    before = finished_run(client, "pointer-7")
    version = register_best()
    after = client.get_run(before.info.run_id)
    assert version.run_id == before.info.run_id
    assert version.tags["precis.git_commit"] == "c0ffee"
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    assert len(after.outputs.model_outputs) == 1


def test_nothing_in_a_registered_model_is_a_pickle(client, make_model, tmp_path):
    make_model()
    register_best()
    stored = [path for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()]
    suffixes = {path.suffix for path in stored if "__pycache__" not in path.parts}
    assert suffixes <= {"", ".py", ".txt", ".yaml", ".json", ".safetensors", ".md"}
    mlmodel = next(path for path in stored if path.name == "MLmodel").read_text()
    assert "mlflow.pyfunc.loaders.code_model" in mlmodel
    assert "python_model: python_model.pkl" not in mlmodel
    assert '"type": "string"' in mlmodel


@pytest.mark.parametrize("file", ["model.safetensors", "shared.txt", "text.json", "manifest.json"])
def test_one_flipped_bit_is_found_before_the_model_is_used(client, make_model, tmp_path, file):
    import mlflow

    make_model()
    version = register_best()
    (stored,) = (tmp_path / "mlartifacts").rglob(f"artifacts/model/{file}")
    damaged = bytearray(stored.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    stored.write_bytes(damaged)
    with pytest.raises(PrecisError, match="manifest"), unpacked(version.uri, digest=version.digest):
        pass
    with pytest.raises((PrecisError, MlflowException), match="manifest"):
        mlflow.pyfunc.load_model("models:/precis@challenger")


def test_files_and_manifest_exchanged_together_are_not_what_was_registered(client, make_model):
    make_model(seed=1)
    first = register_best()
    make_model(seed=2)
    second = register_best()
    with (
        pytest.raises(PrecisError, match="not what was registered"),
        unpacked(second.uri, digest=first.digest),
    ):
        pass


def test_without_models_it_says_what_to_run(client):
    with pytest.raises(PrecisError, match="no trained model in models/: run `dvc repro`"):
        register(
            Path("models"),
            Path("reports"),
            Path("r.json"),
            name="precis",
            metric="rouge1",
            experiment="x",
            decoding={},
        )


def test_a_metric_that_the_reports_lack_is_named_with_those_they_have(client, make_model):
    make_model()
    with pytest.raises(PrecisError, match=r"no 'rouge3'.*it has rouge1, rouge2"):
        register_best(metric="rouge3")
