"""The exceptions that mean: the user can put this right, or time can."""

from __future__ import annotations

import re

# what moves a terminal's cursor, colours it or turns its text around; line feeds and tabs are ours
_TERMINAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_MESSAGE = 20_000


class PrecisError(Exception):
    """Something that a user can cause and can mend.

    The message says what was found, where, what was expected and what to do next. It is shown
    without a traceback, and the process ends with a non-zero exit code. It may quote a stranger's text: what
    would steer a terminal in it is written out.
    """

    def __str__(self) -> str:
        """The message, safe to be shown."""
        text = printable(super().__str__())
        return text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}… (cut off)"


class UnreachableError(PrecisError):
    """Another machine did not answer. The same command may succeed later, with nothing changed."""


def printable(text: str) -> str:
    r"""The text with escapes such as \x1b in place of what would steer a terminal; lines stay lines."""
    return _TERMINAL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
