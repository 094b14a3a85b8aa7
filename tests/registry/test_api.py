"""`from precis import Summarizer`, as a person with a script uses it."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import precis
from precis import PrecisError, Summarizer
from precis.serving.text_summarizer import MOST_CHARACTERS
from precis.stages.register import register

ROOT = Path(__file__).parents[2]
TEXT = "The Meeting moved to Friday\r\nbecause Zoë's room — no. 7 — floods."


@pytest.fixture
def directory(client, make_model):
    torch.set_num_threads(1)
    return make_model()


@pytest.fixture
def registered(directory):
    decoding = json.loads((directory / "text.json").read_text())["decoding"]
    where = Path("models"), Path("reports"), Path("reports/registered.json")
    register(*where, name="precis", metric="rouge1", experiment="precis", decoding=decoding)
    return directory


def test_a_registered_model_is_loaded_by_alias_number_and_folder_and_all_give_the_same(
    registered, client, tmp_path
):
    by_alias = Summarizer.load("models:/precis@challenger")
    summary = by_alias.summarize(TEXT)
    assert isinstance(summary, precis.Summary)
    assert (summary.model_version, summary.run_id) == ("1", client.get_model_version("precis", "1").run_id)
    assert summary.summary_id.startswith(f"sum-{by_alias.digest[:12]}-")
    (from_list,) = Summarizer.load("models:/precis/1").summarize([TEXT])
    assert from_list == summary
    import mlflow

    downloaded = mlflow.artifacts.download_artifacts("models:/precis/1", dst_path=str(tmp_path / "copy"))
    by_path = Summarizer.load(downloaded)  # the digest comes from the files: the id is the same one
    assert by_path.summarize(TEXT).summary_id == summary.summary_id
    vocabulary = Path(downloaded) / "artifacts/model/shared.txt"
    vocabulary.write_text(vocabulary.read_text() + "more\t1\tmore\n")
    with pytest.raises(PrecisError, match=r"shared\.txt: SHA-256 is"):
        Summarizer.load(downloaded)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models:/precis@nobody", "nothing is called precis@nobody"),
        ("models:/precis/9", "there is no version 9 of precis"),
        ("runs:/" + "0" * 32, "no version of precis was made from run"),
        ("nowhere", "nowhere not found: expected models:/NAME@ALIAS"),
        ("mlflow.db", "mlflow.db is a file"),
    ],
)
def test_what_is_no_model_is_told(client, name, message):
    with pytest.raises(PrecisError, match=message):
        Summarizer.load(name)


def test_a_model_of_a_working_copy_decodes_as_its_params_say(directory, tmp_path, monkeypatch):
    text = json.loads((directory / "text.json").read_text())
    decoding = text.pop("decoding")
    (directory / "text.json").write_text(json.dumps(text))
    with pytest.raises(PrecisError, match="does not say how to decode"):
        Summarizer.load(directory)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir("/")  # the folder says which working copy it is, not where a person stands
    loaded = Summarizer.load(directory)
    assert loaded.decoding["beam_size"] == 4 != decoding["beam_size"]
    assert loaded.summarize([TEXT, TEXT])[0].text


def test_outside_of_a_project_no_store_is_made_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    with pytest.raises(PrecisError, match="MLFLOW_TRACKING_URI is not set"):
        Summarizer.load("models:/precis@champion")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "expected a text or a list of texts, found None"),
        (b"bytes", "found bytes b'bytes'"),
        (7, "found int 7"),
        ({"document": "x"}, "found dict"),
        (["fine", None], "text 2 of the list: expected a text, found None"),
        (["fine", ["x"]], "text 2 of the list: expected a text, found list"),
        ("x" * (MOST_CHARACTERS + 1), "text 1 has 10,000,001 characters, and 10,000,000 are the most"),
    ],
)
def test_what_is_no_text_is_told(directory, texts, message):
    with pytest.raises(PrecisError, match=message):
        Summarizer.load(directory).summarize(texts)


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        ({"beamsize": 3}, "no decoding parameter beamsize: there are banned_words, beam_size"),
        ({"beam_size": "3"}, "beam_size: expected a whole number from 1, found '3'"),
        ({"beam_size": None}, "beam_size: expected a whole number from 1, found None"),
        ({"min_length": 9, "max_length": 3}, "min_length 9 must be from 0 to max_length, 3"),
        ({"batch_size": 0}, "batch_size: expected a whole number from 1, found 0"),
    ],
)
def test_decoding_options_that_cannot_be_used_are_told(directory, decoding, message):
    with pytest.raises(PrecisError, match=message):
        Summarizer.load(directory).summarize(TEXT, **decoding)


def test_a_huge_text_takes_no_longer_than_its_beginning(directory):
    summarizer = Summarizer.load(directory)
    beginning = TEXT * 20
    words = summarizer.source_max_length
    expected = [token.text for token in summarizer.tokenizer.tokens(beginning)][:words]
    for rest in (" more" * 1_000_000, "!?" * 4_000_000):
        assert [token.text for token in summarizer.source_tokens(beginning + rest)] == expected
    # one word without an end is cut somewhere: it fills no memory
    assert len(summarizer.source_tokens("!?" * 4_000_000)) == words


def test_threads_get_the_answers_that_they_would_get_alone(directory):
    summarizer = Summarizer.load(directory)
    texts = [f"{TEXT} {'room seven ' * number}" for number in range(8)]
    expected = summarizer.summarize(texts)
    barrier = threading.Barrier(8)
    found = {}

    def work(number):
        barrier.wait()
        # alone, several at once, and with another beam in between
        summarizer.summarize(texts[number], beam_size=1)
        found[number] = [summarizer.summarize(texts[number]), *summarizer.summarize(texts)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    texts_of = {number: [summary.text for summary in summaries] for number, summaries in found.items()}
    assert texts_of == {
        number: [expected[number].text, *(summary.text for summary in expected)] for number in range(8)
    }


def test_importing_costs_nothing_and_loading_a_folder_no_pipeline(directory):
    code = """
import sys
before = set(sys.modules)
import precis
added = {name.split(".")[0] for name in set(sys.modules) - before}
assert "torch" not in added and "numpy" not in added, added
summary = precis.Summarizer.load(sys.argv[1]).summarize("The meeting moved to Friday because of boots.")
assert summary.summary_id
heavy = {"mlflow", "pytorch_lightning", "prefect", "datasets", "pandas", "pyarrow", "dvc", "typer", "pydantic"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
