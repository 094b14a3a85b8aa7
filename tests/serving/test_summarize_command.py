import io
import json
from pathlib import Path

import pytest
from tiny_model import DOCUMENTS, write_model

from precis.commands.summarize import summarize
from precis.errors import PrecisError

DEFAULTS = {
    "beam": None,
    "min_length": None,
    "max_length": None,
    "jsonl": False,
    "provenance": False,
    "settings": None,
    "column": "document",
    "threads": 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_model(tmp_path_factory.mktemp("model"), "pointer"))


def test_a_folder_gives_a_line_for_each_file_and_names_what_it_could_not_read(model, tmp_path, capsys):
    for number, document in enumerate(DOCUMENTS):
        (tmp_path / f"{number}.txt").write_text(document, encoding="utf-8")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(PrecisError, match=r"1 of the inputs could not be read:\n.*bad.txt: not UTF-8"):
        summarize([str(tmp_path)], model=model, **DEFAULTS)
    assert len(capsys.readouterr().out.splitlines()) == len(DOCUMENTS)


def test_json_lines_keep_their_ids_and_tell_origins_when_asked(model, capsys, monkeypatch):
    rows = [json.dumps({"id": number, "document": text}) for number, text in enumerate(DOCUMENTS)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*rows, "{", '{"id": 9}'])))
    with pytest.raises(PrecisError, match=r"line 6: no JSON[\s\S]*line 7: no 'document' in it"):
        summarize(["-"], model=model, **{**DEFAULTS, "jsonl": True, "provenance": True})
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in found] == list(range(len(DOCUMENTS)))
    assert all(row["tokens"] for row in found)


def test_standard_input_is_one_text(model, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(DOCUMENTS[0]))
    summarize(None, model=model, **{**DEFAULTS, "beam": 1})
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_settings_are_changed_one_by_one_and_alternatives_come_as_json(model, capsys, monkeypatch, tmp_path):
    (tmp_path / "a.txt").write_text(DOCUMENTS[0])
    how = {"model": model, **DEFAULTS}
    summarize([str(tmp_path)], **{**how, "settings": ["n_best=3", "length_penalty=none"]})
    best = json.loads(capsys.readouterr().out)
    assert len(best["alternatives"]) == 2 and "tokens" not in best["alternatives"][0]
    drawn = []
    for seed in ("7", "7", "8"):
        settings = ["samples=4", "temperature=1.5", "top_k=30", "top_p=0.95", f"seed={seed}"]
        summarize([str(tmp_path)], **{**how, "settings": settings})
        drawn.append(capsys.readouterr().out)
    assert drawn[0] == drawn[1] != drawn[2]
    words = best["summary"].split()
    summarize(
        [str(tmp_path)], **{**how, "settings": [f"banned_words={words[0].lower()},{words[-1].lower()}"]}
    )
    assert not {words[0].lower(), words[-1].lower()} & set(capsys.readouterr().out.lower().split())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["n_bast=3"], "--set n_bast=3: expected NAME=VALUE, NAME one of banned_words, beam_size"),
        (["n_best"], "--set n_best: expected NAME=VALUE"),
        (["beam_size=few"], "beam_size: expected a whole number from 1, found 'few'"),
        (["int8=maybe", "length_penalty=long"], "int8: expected true or false.*\n.*none or average or wu"),
        (["top_p=2", "samples=2"], "top_p 2"),
        (["temperature=0", "samples=2"], "temperature 0"),
    ],
)
def test_settings_that_cannot_be_used_are_told(model, tmp_path, settings, message):
    (tmp_path / "a.txt").write_text(DOCUMENTS[0])
    with pytest.raises(PrecisError, match=message):
        summarize([str(tmp_path)], **{**DEFAULTS, "model": model, "settings": settings})


def test_every_parameter_of_decoding_can_be_set():
    from precis.params import load_params
    from precis.serving.settings import KINDS, check_values

    decoding = load_params(Path(__file__).parents[2] / "params.yaml").decoding.model_dump(mode="json")
    assert set(decoding) <= set(KINDS)
    check_values(decoding)
