"""`precis summarize`, as a person and as a script use it."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from tiny_model import DOCUMENTS

from precis.commands.summarize import summarize
from precis.errors import PrecisError
from precis.serving.text_summarizer import MOST_CHARACTERS

DEFAULTS = {
    "beam": None,
    "min_length": None,
    "max_length": None,
    "jsonl": False,
    "provenance": False,
    "settings": None,
    "column": "document",
    "out": None,
    "threads": 1,
    "quiet": True,
}


def as_rows(*texts: str) -> bytes:
    return "".join(
        json.dumps({"id": number, "document": text}) + "\n" for number, text in enumerate(texts)
    ).encode()


@pytest.fixture
def folder(tmp_path):
    """A thousand documents, and whatever else may lie about in a folder."""
    folder = tmp_path / "documents"
    for number in range(1_000):
        path = folder / f"{number // 100}" / f"{number:04}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Document {number}: {DOCUMENTS[number % 3]}", encoding="utf-8")
    (folder / "image.png").write_bytes(b"\x89PNG")  # nobody asked for it
    return folder


@pytest.fixture
def broken(folder):
    """What cannot be read in it, each with what is to be said about it."""
    (folder / "latin.txt").write_bytes("Zürich".encode("latin-1"))
    (folder / "folder.txt").mkdir()
    (folder / "link.txt").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.txt")
    (folder / "half.jsonl").write_text('{"document": "fine"}\n{"document": \n')
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # the name of a socket has to be short
    listener.bind("socket.txt")
    os.chdir(here)
    yield {
        "latin.txt": "not UTF-8 text (invalid start byte at byte 1)",
        "folder.txt": "a folder",
        "link.txt": "not found",
        "pipe.txt": "no regular file",
        "socket.txt": "no regular file",
        "half.jsonl, line 2": "no JSON",
    }
    listener.close()


def read_all(terminal: int, shown: list[bytes]) -> None:
    while True:
        try:
            shown.append(os.read(terminal, 65_536))
        except OSError:  # its other end is closed
            os.close(terminal)
            return


def test_a_folder_shows_progress_and_survives_what_cannot_be_read(start, model, folder, broken):
    terminal, inside = pty.openpty()
    process = start("summarize", "--model", model, "--beam", "1", str(folder), stderr=inside)
    os.close(inside)
    shown: list[bytes] = []
    reader = threading.Thread(target=read_all, args=(terminal, shown))
    reader.start()
    out, _ = process.communicate()
    reader.join()
    told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    assert process.returncode == 1, told
    lines = out.decode().splitlines()
    assert len(lines) == 1_001  # and the good row of half.jsonl
    names = [line.split("\t")[0] for line in lines]
    assert names[0] == str(folder / "half.jsonl")
    assert names[1:] == sorted(str(path) for path in folder.glob("*/*.txt"))
    assert all(line.split("\t")[1] for line in lines)
    assert re.search(r"summaries .* \d+.*/s", told), told[:2_000]
    assert "Traceback" not in told and f"{len(broken)} of the inputs could not be read" in told
    flat = " ".join(told.split())
    for name, why in broken.items():
        assert re.search(rf"{re.escape(name)}: {re.escape(why)}", flat.replace("- ", "-")), (
            name,
            flat[-3_000:],
        )


def test_a_file_of_results_is_whole_or_absent(start, run, model, folder, tmp_path):
    out = tmp_path / "results" / "summaries.jsonl"
    process = start("summarize", "--model", model, "--out", str(out), str(folder))
    try:
        while not list(tmp_path.glob("results/.*.part")):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, b"interrupted\n")
    assert list(out.parent.iterdir()) == []
    small = [str(file) for file in sorted(folder.glob("0/000*.txt"))]
    code, printed, err = run(
        "summarize", "--model", model, "--out", str(out), *small, str(tmp_path / "no.txt")
    )
    assert (code, printed) == (1, "")
    assert f"{tmp_path / 'no.txt'}: not found" in err
    rows = [json.loads(line) for line in out.read_text().splitlines()]  # the rest is there
    assert [row["file"] for row in rows] == small


def test_json_lines_keep_their_ids_and_bad_ones_are_told(run, model):
    rows = as_rows(*DOCUMENTS) + b'{\n{"id": 9}\n[1]\n{"document": 3}\n\xff\n{"document": "\\ud800"}\n'
    rows += json.dumps({"document": "x" * (MOST_CHARACTERS + 1)}).encode() + b"\n" + as_rows("last one")
    code, out, err = run("summarize", "--model", model, "--jsonl", "--provenance", given=rows)
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [row["id"] for row in found] == [*range(len(DOCUMENTS)), 0]
    assert all(row["tokens"] and row["summary_id"] for row in found)
    for line, why in [
        (6, "no JSON"), (7, "no 'document' in it"), (8, "no 'document' in it"), (9, "'document' is int"),
        (10, "no JSON"), (11, "half a surrogate pair"), (12, "longer than 10,000,000 characters"),
    ]:  # fmt: skip
        assert re.search(rf"line {line}: {why}", err), err


def test_the_field_of_the_text_can_be_another(run, model):
    row = json.dumps({"body": DOCUMENTS[0]}).encode()
    code, out, _ = run("summarize", "--model", model, "--jsonl", "--column", "body", given=row)
    assert code == 0 and json.loads(out)["summary"]


def test_an_answer_comes_before_the_next_question(start, model):
    process = start("summarize", "--model", model, "--jsonl", stdin=subprocess.PIPE)
    try:
        for number in range(3):
            process.stdin.write(json.dumps({"id": number, "document": DOCUMENTS[number]}).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdin.close()
        assert process.wait(60) == 0
    finally:
        process.kill()


def test_standard_input_is_one_text_and_a_reader_may_leave(run, start, model, folder):
    code, out, err = run("summarize", "--model", model, "-", given=DOCUMENTS[0].encode())
    assert (code, len(out.splitlines()), err) == (0, 1, "")
    process = start("summarize", "--model", model, str(folder))
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (128 + signal.SIGPIPE, b"")


def test_a_model_that_is_not_there_is_told(run, tmp_path):
    code, out, err = run("summarize", given=b"text", cwd=tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith("error: models/pointer not found: expected models:/NAME@ALIAS")
    assert list(tmp_path.iterdir()) == []


def test_settings_are_changed_one_by_one_and_alternatives_come_as_json(model, capsys, tmp_path):
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
