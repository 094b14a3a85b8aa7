import io
import json

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
