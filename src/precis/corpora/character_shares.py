"""How much of a text is capitals, digits, punctuation, and other than ASCII."""

from __future__ import annotations

import string

_LETTERS, _CAPITALS = string.ascii_letters.encode(), string.ascii_uppercase.encode()
_DIGITS, _SPACES = string.digits.encode(), string.whitespace.encode()
CHARACTER_SHARES = ("upper_case", "digits", "punctuation", "non_ascii")


def character_shares(text: str) -> tuple[float, float, float, float]:
    """Shares in the order of CHARACTER_SHARES: of the letters that are capitals, else of all characters."""
    size = max(1, len(text))
    letters, capitals, digits, spaces, others = _character_classes(text)
    punctuation = len(text) - letters - digits - spaces
    return capitals / max(1, letters), digits / size, punctuation / size, others / size


def _character_classes(text: str) -> tuple[int, int, int, int, int]:
    """How many letters, capitals, digits, white space and characters outside ASCII there are."""
    data = text.encode("ascii", "ignore")
    letters, capitals, digits, spaces = (
        len(data) - len(data.translate(None, some)) for some in (_LETTERS, _CAPITALS, _DIGITS, _SPACES)
    )
    if not text.isascii():
        rest = [char for char in text if not char.isascii()]
        letters += sum(map(str.isalpha, rest))
        capitals += sum(map(str.isupper, rest))
        digits += sum(map(str.isdigit, rest))
        spaces += sum(map(str.isspace, rest))
    return letters, capitals, digits, spaces, len(text) - len(data)
