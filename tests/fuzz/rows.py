"""Rows that are nearly right: good ones, changed here and there as a stranger's export, or an attacker, would."""

from __future__ import annotations

import json
import random
from typing import Any

WORDS = [
    "river",
    "market",
    "teacher",
    "window",
    "garden",
    "letter",
    "winter",
    "Zoë",
    "naïve",
    "東京",
    "привет",
    "7.5",
]
# what has broken text processing somewhere
PIECES = [
    "", " ", "\t", "\n", "\r", "\r\n", "\x00", "\x1b[31m", "\x1b]0;x\x07", "\x9b31m", "\x7f", "\u0085",
    "\u00a0", "\u00ad", "\u200b", "\u200d", "\u2028", "\u2029", "\u202e", "\u2066", "\ufeff", "\ufffd",
    "\uffff", "\ufdd0", "\U0001f468\u200d\U0001f469", "\U0010ffff", "\u0301" * 40, "İ", "ß", "ﬃ", "Ǆ", "ᾳ",
    "\u1100\u1161", "\u0344", "Ã©", "â€™", "ÃƒÂ©", "\uffed", "<\uffed>", "<", ">", "&amp;", "&#0;",
    "&#x110000;", "<br", "<a href=", "</a>", "<!--", "<![CDATA[", "{{7*7}}", "${7*7}", "%s%n", "\\", "'",
    '"', "<pad>", "<unk>", "<s>", "</s>", "\\ud800", "NaN", "null", "../../etc/passwd", "[red]x[/red]",
    "[/]", "<script>alert(1)</script>", "<" * 300, "&#" + "9" * 5000 + ";",
    "a'" * 200, "." * 300, "&" * 300, "[/b" * 100,
]  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, -1, 1.5, 10**30, 10**400, 1e308, [], {}, [None], [1], ["a"], [["a"]], {"a": 1},
    "", " ", "x" * 500,
]  # fmt: skip
KEYS = ["id", "document", "summary", "references", "group", "time"]


class Rows:
    """An endless supply, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._number = 0

    def text(self, most_words: int = 25) -> str:
        words = self.random.choices(WORDS, k=self.random.randint(1, most_words))
        return " ".join(f"{word}{self.random.randrange(1000)}" for word in words)

    def good(self) -> dict[str, Any]:
        self._number += 1
        return {
            "id": f"row-{self._number}",
            "document": self.text(40),
            "summary": self.text(4),
            "references": [self.text(4)],
            "group": f"g{self._number // 7}",
            "time": self.random.choice(["2026-11-22T09:00", 1_700_000_000]),
        }

    def row(self) -> dict[str, Any]:
        """Every third one as it should be; the others with one to three changes."""
        row = self.good()
        for _ in range(self.random.choice([0, 1, 1, 2, 3])):
            self._change(row)
        return row

    def _change(self, row: dict[str, Any]) -> None:
        key = self.random.choice(KEYS)
        match self.random.randrange(6):
            case 0:
                row[key] = self.random.choice(VALUES)
            case 1:
                row.pop(key, None)
            case 2:
                row[self.random.choice(PIECES) or "extra"] = self.random.choice(VALUES)
            case _:
                row[key] = self._spoilt(str(row.get(key, "")))

    def _spoilt(self, text: str) -> str:
        place = self.random.randint(0, len(text))
        piece = self.random.choice(PIECES)
        if self.random.random() < 0.05:
            piece = chr(self.random.randrange(0xD800, 0xE000))  # half of a surrogate pair
        return text[:place] + piece + text[place:]

    def line(self) -> bytes:
        """A row as a line of JSON, one in ten with its bytes changed, too."""
        line = json.dumps(self.row(), ensure_ascii=self.random.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
        line = line.replace(b"\n", b" ")
        if self.random.random() < 0.1:
            line = self.damaged(line)
        return line.replace(b"\n", b" ")

    def damaged(self, content: bytes) -> bytes:
        """With bytes changed, left out, doubled or cut off."""
        changed = bytearray(content)
        for _ in range(self.random.randint(1, 3)):
            place = self.random.randrange(max(1, len(changed)))
            match self.random.randrange(4):
                case 0 if changed:
                    changed[place] = self.random.randrange(256)
                case 1:
                    del changed[place : place + self.random.randint(1, 20)]
                case 2:
                    changed[place:place] = changed[max(0, place - 10) : place]
                case _:
                    changed[place:place] = bytes(self.random.choices(range(256), k=3))
        return bytes(changed)
