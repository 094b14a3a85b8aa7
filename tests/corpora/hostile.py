"""Rows and files that no corpus should have, each with what precis must say of it."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

WORDS = [
    "river",
    "market",
    "teacher",
    "window",
    "garden",
    "letter",
    "winter",
    "morning",
    "doctor",
    "bridge",
    "engine",
    "forest",
    "island",
    "kitchen",
    "ladder",
    "mirror",
    "orange",
    "pepper",
    "rabbit",
    "silver",
    "ticket",
    "valley",
    "wallet",
    "yellow",
    "anchor",
    "basket",
    "candle",
    "dragon",
    "eagle",
    "farmer",
    "glacier",
    "harbor",
]


def text(number: int, length: int = 40) -> str:
    """Ordinary words, other ones for each number."""
    generator = random.Random(number)
    return " ".join(f"{generator.choice(WORDS)}{generator.randrange(100)}" for _ in range(length))


def summary(number: int) -> str:
    return f"{WORDS[number % len(WORDS)]} news of day {number}"


def row(number: int, **changes: object) -> bytes:
    """A good row as a JSON line, but for the changes; `...` leaves a key out."""
    values = {"id": f"row-{number}", "document": text(number), "summary": summary(number), **changes}
    return json.dumps({key: value for key, value in values.items() if value is not ...}).encode()


def _inside(number: int, some: bytes) -> bytes:
    return row(number).replace(b'"document": "', b'"document": "' + some + b" ", 1)


def bad_rows() -> list[tuple[str, str, bytes]]:
    """What is wrong, the reason that must be given, and the line; numbers from 1000 on, good rows have lower ones."""
    kinds: list[tuple[str, str, Callable[[int], bytes]]] = [
        ("cut-off JSON", "invalid_json", lambda n: row(n)[:-20]),
        ("a comma too many", "invalid_json", lambda n: row(n)[:-1] + b",}"),
        ("no JSON at all", "invalid_json", lambda n: b"id,document,summary"),
        ("a list", "invalid_json", lambda n: b'["a", "b", "c"]'),
        ("a string", "invalid_json", lambda n: b'"only text"'),
        ("a number", "invalid_json", lambda n: b"42"),
        ("null", "invalid_json", lambda n: b"null"),
        ("NaN", "invalid_json", lambda n: row(n)[:-1] + b', "score": NaN}'),
        ("deep nesting", "invalid_json", lambda n: b'{"document": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        ("a key twice", "invalid_json", lambda n: row(n)[:-1] + b', "summary": "another one"}'),
        ("two objects on a line", "invalid_json", lambda n: row(n) + row(n + 1)),
        ("no document", "missing_field", lambda n: row(n, document=...)),
        ("null document", "missing_field", lambda n: row(n, document=None)),
        ("no summary", "missing_field", lambda n: row(n, summary=...)),
        ("null summary", "missing_field", lambda n: row(n, summary=None)),
        ("no id", "missing_field", lambda n: row(n, id=...)),
        ("number as document", "wrong_type", lambda n: row(n, document=12.5)),
        ("list as document", "wrong_type", lambda n: row(n, document=["a", "b"])),
        ("object as document", "wrong_type", lambda n: row(n, document={"text": "a"})),
        ("boolean as summary", "wrong_type", lambda n: row(n, summary=True)),
        ("list as id", "wrong_type", lambda n: row(n, id=[1])),
        ("boolean as id", "wrong_type", lambda n: row(n, id=True)),
        ("empty id", "no_id", lambda n: row(n, id="")),
        ("blank id", "no_id", lambda n: row(n, id=" \t")),
        ("id that climbs folders", "unsafe_id", lambda n: row(n, id="../../etc/passwd")),
        ("id that is a path", "unsafe_id", lambda n: row(n, id="/etc/passwd")),
        ("id with a backslash", "unsafe_id", lambda n: row(n, id="a\\b")),
        ("id on a drive", "unsafe_id", lambda n: row(n, id="C:/boot")),
        ("id with NUL", "unsafe_id", lambda n: row(n, id="a\0b")),
        ("id with a line break", "unsafe_id", lambda n: row(n, id="a\nb")),
        ("id of ten thousand characters", "unsafe_id", lambda n: row(n, id="x" * 10_000)),
        ("id of an earlier row", "duplicate_id", lambda n: row(n, id="row-1")),
        ("empty document", "empty_document", lambda n: row(n, document="")),
        ("document of spaces", "empty_document", lambda n: row(n, document=" \u00a0\t\n\u3000")),
        ("document of punctuation", "empty_document", lambda n: row(n, document="... !!! ---")),
        ("document of nothing visible", "empty_document", lambda n: row(n, document="\u200b\u200b\ufeff")),
        ("empty summary", "empty_summary", lambda n: row(n, summary="")),
        ("summary of spaces", "empty_summary", lambda n: row(n, summary="\u2003 \n")),
        ("summary of punctuation", "empty_summary", lambda n: row(n, summary="???")),
        ("bytes that are no UTF-8", "invalid_utf8", lambda n: _inside(n, b"mark\xe9t\xff")),
        ("overlong UTF-8", "invalid_utf8", lambda n: _inside(n, b"mar\xc0\xafket")),
        ("a lone surrogate", "lone_surrogate", lambda n: _inside(n, b"mar\\ud800ket")),
        ("a lone low surrogate", "lone_surrogate", lambda n: row(n, summary="news \udfff of today")),
        ("NUL", "control_characters", lambda n: row(n, document=text(n) + " \0 end")),
        (
            "terminal colours",
            "control_characters",
            lambda n: row(n, document=text(n) + " \x1b[31mred\x1b[0m"),
        ),
        ("backspaces", "control_characters", lambda n: row(n, summary="news\b\b of today")),
        ("C1 controls", "control_characters", lambda n: row(n, document=text(n) + " it\u0092s")),
        (
            "text that runs backwards",
            "control_characters",
            lambda n: row(n, document=text(n) + " \u202egnp.exe"),
        ),
        ("a noncharacter", "control_characters", lambda n: row(n, document=text(n) + " \uffff")),
        ("replacement characters", "mojibake", lambda n: row(n, document=text(n) + " caf\ufffd")),
        (
            "UTF-8 read as Latin-1",
            "mojibake",
            lambda n: row(n, document=text(n) + " dÃ©jÃ\u00a0 vu, lâ€™Ã©tÃ©"),
        ),
        (
            "UTF-8 read as Latin-1 twice",
            "mojibake",
            lambda n: row(n, document=text(n) + " ÃƒÂ©tÃƒÂ© ÃƒÂ¼ber"),
        ),
        ("mojibake in the summary", "mojibake", lambda n: row(n, summary="it â€™ s the ladderâ€™s day")),
        ("HTML", "markup", lambda n: row(n, document=f"<p>{text(n)}</p>")),
        ("HTML with attributes", "markup", lambda n: row(n, document=f'<a href="http://a.b/c">{text(n)}')),
        ("HTML line breaks", "markup", lambda n: row(n, document=text(n) + "<br/>" + text(n))),
        ("a script", "markup", lambda n: row(n, document=text(n) + "<script>alert(1)</script>")),
        ("HTML entities", "markup", lambda n: row(n, document=text(n) + " fish &amp; chips&nbsp;")),
        ("numeric entities", "markup", lambda n: row(n, summary="it&#8217;s the news of the day")),
        ("an HTML comment", "markup", lambda n: row(n, document=text(n) + " <!-- advertisement -->")),
        ("CDATA", "markup", lambda n: row(n, document=f"<![CDATA[{text(n)}]]>")),
        ("XML", "markup", lambda n: row(n, document=f'<?xml version="1.0"?> {text(n)}')),
        ("RTF", "markup", lambda n: row(n, document="{\\rtf1\\ansi " + text(n))),
        ("forum markup", "markup", lambda n: row(n, document=f"[quote]{text(n)}[/quote]")),
        ("summary longer than document", "summary_too_long", lambda n: row(n, summary=text(n + 1, 60))),
        ("summary equal to document", "summary_too_long", lambda n: row(n, summary=text(n))),
        (
            "first line is the summary",
            "summary_is_first_line",
            lambda n: row(n, document=f"{summary(n)}\n{text(n)}"),
        ),
        (
            "first line is the summary after a label",
            "summary_is_first_line",
            lambda n: row(n, document=f"Subject: {summary(n).upper()}!\n\n{text(n)}"),
        ),
        ("a token without end", "long_token", lambda n: row(n, document=text(n) + " " + "QUJD" * 2_000)),
        ("a line without end", "long_line", lambda n: row(n, document=text(n, 9_000))),
        ("a book", "long_document", lambda n: row(n, document="\n".join([text(n)] * 2_500))),
        ("a row too long to read", "row_too_long", lambda n: row(n, document="word " * 1_000_000)),
        ("a copy", "duplicate", lambda n: row(n, document=text(1))),
        (
            "a copy in capitals, spaced",
            "duplicate",
            lambda n: row(n, document=text(2).upper().replace(" ", " \n ")),
        ),
        (
            "a copy with other punctuation",
            "duplicate",
            lambda n: row(n, document=text(3).replace(" ", ", ") + "."),
        ),
        ("nearly a copy", "near_duplicate", lambda n: row(n, document=text(4) + " indeed")),
        ("Russian summary of English", "script_mismatch", lambda n: row(n, summary="новости этого дня")),
        ("references that are a string", "wrong_type", lambda n: row(n, references="just one")),
        ("references that are numbers", "wrong_type", lambda n: row(n, references=[1, 2])),
    ]
    return [(kind, reason, line(1000 + 10 * number)) for number, (kind, reason, line) in enumerate(kinds)]


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _good(num_rows: int = 30) -> bytes:
    return b"".join(row(number) + b"\n" for number in range(num_rows))


def _csv(delimiter: str = ",", header: str = "id,document,summary") -> bytes:
    lines = [header, *(delimiter.join((f"row-{n}", text(n), summary(n))) for n in range(30))]
    return "\n".join(lines).encode()


def _parquet(path: Path) -> Path:
    pq.write_table(pa.table({"id": ["a"], "document": [text(1)], "summary": [summary(1)]}), path)
    return path


def _loop(folder: Path) -> Path:
    (folder / "a.jsonl").symlink_to(folder / "b.jsonl")
    (folder / "b.jsonl").symlink_to(folder / "a.jsonl")
    return folder / "a.jsonl"


def _dangling(folder: Path) -> Path:
    (folder / "a.jsonl").symlink_to(folder / "gone.jsonl")
    return folder / "a.jsonl"


def _folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_bytes(_good())
    return path


def _zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("corpus.jsonl", _good())
    return path


def _broken_parquet(path: Path) -> Path:
    data = _parquet(path).read_bytes()
    return _write(path, data[: len(data) // 2])


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _long_line(path: Path) -> Path:
    with path.open("wb") as file:
        file.write(b'{"id": "a", "document": "')
        for _ in range(200):
            file.write(b"word " * 200_000)
        file.write(b'", "summary": "b"}\n')
    return path


def _bomb(path: Path) -> Path:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        for _ in range(100):
            file.write(b"spam " * 200_000 + b"\n")
    return _write(path, buffer.getvalue())


def bad_files() -> list[tuple[str, str, Callable[[Path], Path]]]:
    """What is wrong, what the message must match, and a function that makes it in a folder."""
    return [
        ("nothing there", "not found", lambda f: f / "absent.jsonl"),
        ("an empty file", "is empty", lambda f: _write(f / "a.jsonl", b"")),
        ("blank lines only", "no rows", lambda f: _write(f / "a.jsonl", b"\n \n\n")),
        ("a header only", "no rows", lambda f: _write(f / "a.csv", b"id,document,summary\n")),
        (
            "gzip cut off",
            "ends too early",
            lambda f: _write(f / "a.jsonl.gz", gzip.compress(_good(500))[:-500]),
        ),
        (
            "gzip with a wrong checksum",
            "damaged",
            lambda f: _write(f / "a.jsonl.gz", gzip.compress(_good())[:-8] + b"12345678"),
        ),
        (
            "gzip with wrong bytes",
            "damaged",
            lambda f: _write(f / "a.jsonl.gz", gzip.compress(_good())[:60] + b"x" * 200),
        ),
        (
            "zstd cut off",
            "ends too early",
            lambda f: _write(f / "a.jsonl.zst", zstandard.compress(_good(500))[:-50]),
        ),
        ("gzip without its extension", "found gzip", lambda f: _write(f / "a.jsonl", gzip.compress(_good()))),
        ("text called gzip", "expected gzip, found text", lambda f: _write(f / "a.jsonl.gz", _good())),
        ("text called zstd", "expected zstd, found text", lambda f: _write(f / "a.jsonl.zst", _good())),
        (
            "gzip called zstd",
            "expected zstd, found gzip",
            lambda f: _write(f / "a.jsonl.zst", gzip.compress(_good())),
        ),
        ("JSON called CSV", "found JSON", lambda f: _write(f / "a.csv", _good())),
        ("CSV called JSON", "not JSON Lines", lambda f: _write(f / "a.jsonl", _csv())),
        ("CSV called TSV", "no column", lambda f: _write(f / "a.tsv", _csv())),
        ("Parquet called JSON", "found Parquet", lambda f: _parquet(f / "a.jsonl")),
        ("JSON called Parquet", "expected Parquet", lambda f: _write(f / "a.parquet", _good())),
        ("Parquet cut off", "damaged", lambda f: _broken_parquet(f / "a.parquet")),
        ("Parquet in gzip", "compressed inside", lambda f: _write(f / "a.parquet.gz", b"x")),
        ("an archive", "zip archive", lambda f: _zip(f / "a.jsonl")),
        ("an unknown extension", "extension", lambda f: _write(f / "a.docx", b"x")),
        ("no extension", "extension", lambda f: _write(f / "corpus", _good())),
        ("UTF-16", "UTF-16", lambda f: _write(f / "a.csv", _csv().decode().encode("utf-16"))),
        ("random bytes", "not JSON Lines", lambda f: _write(f / "a.jsonl", bytes(range(256)) * 40)),
        ("a JSON array", "JSON array", lambda f: _write(f / "a.json", b"[" + row(1) + b"]")),
        (
            "JSON over many lines",
            "not JSON Lines",
            lambda f: _write(f / "a.json", json.dumps(json.loads(row(1)), indent=1).encode()),
        ),
        ("a folder called a file", "no corpus in it", lambda f: _folder(f / "a.jsonl")),
        ("an empty folder", "no corpus in it", lambda f: _folder(f / "empty")),
        ("a folder in a folder, called a file", "is a folder", lambda f: _folder(f / "x.jsonl").parent),
        ("other files only", "no corpus in it", lambda f: _folder(f / "notes", "notes.docx")),
        (
            "splits and other files",
            "others besides",
            lambda f: _folder(f / "mixed", "train.jsonl", "extra.jsonl"),
        ),
        ("a link to itself", "leads back to itself", _loop),
        ("a link to nothing", "not found", _dangling),
        ("a pipe", "neither a file nor a folder", lambda f: _pipe(f / "a.jsonl")),
        ("a pipe in a folder", "no ordinary file", lambda f: _pipe(_folder(f / "pipes") / "a.jsonl").parent),
        (
            "misspelt columns",
            "did you mean `documnet`",
            lambda f: _write(f / "a.jsonl", _good().replace(b"document", b"documnet")),
        ),
        ("semicolons in CSV", "no column", lambda f: _write(f / "a.csv", _csv(";", "id;document;summary"))),
        ("a column twice", "twice", lambda f: _write(f / "a.csv", _csv(header="id,document,document"))),
        (
            "a quote that never closes",
            "never closes",
            lambda f: _write(f / "a.csv", _csv() + b'\nx,"open,b\n'),
        ),
        ("a line of 200 MB", "longer|row_too_long|more than", lambda f: _long_line(f / "a.jsonl")),
        ("a decompression bomb", "times its size", lambda f: _bomb(f / "a.jsonl.gz")),
        ("an unknown protocol", "cannot be opened", lambda f: Path("nosuch://bucket/corpus.jsonl")),
    ]
