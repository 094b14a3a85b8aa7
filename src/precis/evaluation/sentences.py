"""Where sentences end."""

from __future__ import annotations

import regex

# a mark that ends a sentence, with what closes around it, before white space; CJK and Devanagari marks too.
# A single capital before the dot is an initial, and a lower-case letter after it goes on with the sentence.
_END = regex.compile(
    r"(?:(?<!\b\p{Lu})\.(?=[\"'”’)\]]*\s+[^\p{Ll}\s])|[!?](?=[\"'”’)\]]*\s)|[।॥۔։]|(?:[。！？](?![”’」』）])))[\"'”’」』）)\]]*"
)
_PARAGRAPH = regex.compile(r"\n+")


def sentences(text: str) -> list[str]:
    """Cut a text into sentences by their marks; a new line ends one, too. Without white space at the ends."""
    found = []
    for line in _PARAGRAPH.split(text):
        start = 0
        for match in _END.finditer(line):
            found.append(line[start : match.end()].strip())
            start = match.end()
        found.append(line[start:].strip())
    return [sentence for sentence in found if sentence]
