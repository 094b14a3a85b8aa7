"""The exceptions that mean: the user can put this right, or time can."""

from __future__ import annotations

import logging
import re
import sys

from typing_extensions import override

# what moves a terminal's cursor, colours it or turns its text around; line feeds and tabs are ours
_TERMINAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PASSWORD = re.compile(r"(?<=://)[^/\s:@]{0,200}:[^/\s@]{1,500}@")
_LONGEST_MESSAGE = 20_000


class PrecisError(Exception):
    """Something that a user can cause and can mend.

    The message says what was found, where, what was expected and what to do next. It is shown
    without a traceback, and the process ends with a non-zero exit code. It may quote a stranger's text or an
    address: what would steer a terminal is written out, and passwords are left out.
    """

    def __str__(self) -> str:
        """The message, safe to be shown."""
        text = shown(super().__str__())
        return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}… (cut off)"


class UnreachableError(PrecisError):
    """Another machine did not answer. The same command may succeed later, with nothing changed."""


def printable(text: str) -> str:
    r"""The text with escapes such as \x1b in place of what would steer a terminal; lines stay lines."""
    return _TERMINAL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def shown(text: str) -> str:
    """The text as it may be printed or logged: `printable`, and without the passwords of addresses."""
    return printable(_PASSWORD.sub("***@", text))


class ShownFormatter(logging.Formatter):
    """Lines of a log, safe for a terminal and without passwords: they quote documents, and other people's errors."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return shown(super().format(record))


def log_to_stderr(level: int = logging.INFO, form: str = "%(message)s") -> None:
    """Have this process write its log to standard error, each line as it may be shown."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(ShownFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
