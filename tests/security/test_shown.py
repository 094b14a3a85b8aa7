"""What is printed or logged steers no terminal and tells no password."""

import logging
import os
import pty
import subprocess
import sys

import pytest

from precis.errors import PrecisError, log_to_stderr, printable, shown

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J back\b\b \u202egnp \r over"


def test_a_message_writes_out_what_would_steer_a_terminal():
    text = str(PrecisError(f"found {HOSTILE}\nsecond line"))
    assert not any(
        ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in text.replace("\n", "")
    )
    assert "\\x1b[31mred" in text and "\\u202e" in text and text.endswith("\nsecond line")


def test_a_message_has_an_end():
    assert len(str(PrecisError("x" * 10_000_000))) < 21_000


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://user:geheim@host:5000/path", "http://***@host:5000/path"),  # pragma: allowlist secret
        ("postgresql+psycopg://u:p%40ss@db/x", "postgresql+psycopg://***@db/x"),  # pragma: allowlist secret
        ("https://host/path?a=b", "https://host/path?a=b"),
        ("mail to a@b.example at 10:30", "mail to a@b.example at 10:30"),
    ],
)
def test_a_password_in_an_address_is_left_out(address, expected):
    assert shown(address) == expected
    assert str(PrecisError(f"no answer from {address}")).endswith(expected)


def test_the_log_is_shown_as_messages_are(capsys):
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers.clear()
    try:
        log_to_stderr()
        address = "http://u:geheim@h"  # pragma: allowlist secret
        logging.getLogger("precis.test").warning("%s from %s", HOSTILE, address)
        said = capsys.readouterr().err
    finally:
        root.handlers[:] = before
    assert "\x1b" not in said and "\\x1b[31mred" in said and "geheim" not in said


def test_what_is_printable_stays():
    assert printable("Zoë’s\ttab, 東京, 👩‍🚀\n") == "Zoë’s\ttab, 東京, 👩‍🚀\n"


def test_a_hostile_name_on_the_command_line_is_written_out(tmp_path):
    """On a real terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "precis.cli", "summarize", "--model", f"{tmp_path}/{HOSTILE}", "x.txt"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        timeout=200,
    )
    os.close(theirs)
    said = os.read(ours, 100_000)
    os.close(ours)
    assert done.returncode != 0
    assert b"\x1b[31mred" not in said and b"\\x1b[31mred" in said
