"""What can be wrong with a single row, and the reason by which it is set aside.

A row has one reason, the first that applies, so that reasons add up to the rows set aside.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

import regex

# reasons by check; the checks are the keys of params.yaml: prepare.checks
CHECKS: dict[str, tuple[str, ...]] = {
    "unreadable": (
        *("invalid_json", "invalid_csv", "missing_field", "wrong_type"),
        *("invalid_utf8", "lone_surrogate", "row_too_long"),
    ),
    "id": ("no_id", "unsafe_id", "duplicate_id"),
    "empty": ("empty_document", "empty_summary"),
    "leakage": ("in_test", "in_validation"),
    "near_leakage": ("near_test", "near_validation"),
    "duplicate": ("duplicate",),
    "near_duplicate": ("near_duplicate",),
    "control_characters": ("control_characters",),
    "mojibake": ("mojibake",),
    "markup": ("markup",),
    "too_long": ("long_document", "long_line", "long_token"),
    "summary_length": ("summary_too_long",),
    "summary_leak": ("summary_is_first_line",),
    "boilerplate": ("boilerplate",),
    "script": ("script_mismatch",),
}
CHECK_OF = {reason: check for check, reasons in CHECKS.items() for reason in reasons}

_WORD = re.compile(r"\w+")
_ASCII_WORDS = bytes(
    ord(char.lower()) if _WORD.match(char) else ord(" ") for char in map(chr, range(128))
) + bytes(128)
# what no plain text has, and what may be a trace of markup: one scan finds rows worth a closer look
_CONTROL = r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
_SUSPICIOUS = re.compile(rf"[{_CONTROL}\ufffd\ufffe\uffff<&\[{{\u202a-\u202e\u2066-\u2069]")
_CONTROL_CHARACTER = re.compile(rf"[{_CONTROL}\ufffe\uffff\u202a-\u202e\u2066-\u2069]")
# short names in angle brackets are also ticker symbols and type parameters: these count when closed, or with attributes
_SHORT_TAGS = (
    "a|abbr|b|cite|code|dd|dl|dt|em|h[1-6]|hr|i|li|link|nav|ol|p|pre|s|small|sub|sup|td|th|title|tr|tt|u|ul"
)
_LONG_TAGS = (
    "article|blockquote|body|br|button|center|div|font|footer|form|head|header|html|iframe|img|input|meta|"
    "script|section|select|span|strike|strong|style|svg|table|tbody|textarea|tfoot|thead|video"
)
# bounded, so that a page of `<` takes no quadratic time
_MARKUP = re.compile(
    rf"""</(?:{_SHORT_TAGS}|{_LONG_TAGS})\s{{0,9}}>
    | <(?=[a-z])(?:
          (?:{_SHORT_TAGS}|{_LONG_TAGS})\s{{1,9}}[a-z-]{{1,30}}\s?=[^<>]{{0,500}}>
        | (?:{_LONG_TAGS})\s{{0,9}}/?>
      )
    | <!-- | <!\[CDATA\[ | <\?xml\b | <!DOCTYPE\b | \{{\\rtf1?
    | &(?:nbsp|amp|lt|gt|quot|apos|mdash|ndash|hellip|[lr][sd]quo|\#\d{{2,6}}|\#x[0-9a-f]{{2,6}});
    | \[/(?:b|i|u|url|img|quote|code|size|color)\]""",
    re.VERBOSE | re.IGNORECASE,
)
_TITLE_LABEL = re.compile(r"^\W*(?:subject|title|headline|summary|topic|re|fwd?)\s*:\s*", re.IGNORECASE)
_UNSAFE_ID = re.compile(rf"^[/\\~]|\\|(?:^|/)\.\.?(?:/|$)|^[A-Za-z]:[/\\]|[{_CONTROL}\n\r\t]")
_MOST_REPAIRED = 50_000  # characters looked at for mojibake, which takes 1 s for a million of the worst kind
_LONGEST_ID = 400  # characters; file names end at 255 bytes, paths of source files are longer
_SCRIPTS = (
    "Latin",
    "Cyrillic",
    "Greek",
    "Arabic",
    "Hebrew",
    "Devanagari",
    "Thai",
    "Hangul",
    "Armenian",
    "Georgian",
)
_LETTERS = {name: regex.compile(rf"\p{{{name}}}") for name in _SCRIPTS} | {
    "Chinese or Japanese": regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}]")
}


class Problem(NamedTuple):
    """Why a row is set aside."""

    reason: str
    detail: str


@dataclass(frozen=True)
class TextLimits:
    """Lengths, in characters, past which a text is no article."""

    max_document_characters: int
    max_line_characters: int
    max_token_characters: int


def normalise(text: str) -> str:
    """One form for the same text: composed characters, line feeds, no byte order mark, nothing around it."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).replace("\ufeff", "")
    return text.strip()


def key_words(text: str) -> list[str]:
    """The words by which texts are compared: lower-cased, without punctuation and spacing."""
    if "&" in text:
        text = _unescaped(text)  # a copy that went through a web page is a copy
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS).decode().split()  # the same, five times as fast
    return _WORD.findall(text.lower())


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character's number of more than 4,300 digits
        return text


def check_id(row_id: str | None) -> Problem | None:
    """Ids end up in file names, links and tables."""
    if row_id is None or not row_id.strip():
        return Problem("no_id", "null" if row_id is None else "empty")
    if len(row_id) > _LONGEST_ID:
        return Problem("unsafe_id", f"{len(row_id):,} characters")
    unsafe = _UNSAFE_ID.search(row_id)
    return Problem("unsafe_id", f"{unsafe[0]!r} in it") if unsafe else None


def check_content(
    document: str, summary: str, document_words: list[str], summary_words: list[str], limits: TextLimits
) -> list[Problem]:
    """All that is wrong with the two texts of a row, normalised, neither empty; the most serious first.

    Args:
        document: the text to summarize.
        summary: its summary.
        document_words: the document's `key_words`.
        summary_words: the summary's.
        limits: lengths past which a text is no article.
    """
    problems: list[Problem] = []
    for name, text in (("document", document), ("summary", summary)):
        if _SUSPICIOUS.search(text):
            problems += _suspicious(name, text)
        if not text.isascii():
            problems += _mojibake(name, text)
    problems += _too_long(document, limits)
    if len(summary_words) >= len(document_words):
        detail = f"{len(summary_words)} words, the document has {len(document_words)}"
        problems.append(Problem("summary_too_long", detail))
    elif _is_first_line(document, summary_words):
        problems.append(Problem("summary_is_first_line", summary[:80]))
    if not (document.isascii() and summary.isascii()):
        problems += _script(document, summary)
    return problems


def _suspicious(name: str, text: str) -> list[Problem]:
    problems = []
    if control := _CONTROL_CHARACTER.search(text):
        problems.append(Problem("control_characters", f"U+{ord(control[0]):04X} in {name}"))
    if "\ufffd" in text:
        problems.append(Problem("mojibake", f"U+FFFD in {name}: bytes were lost before"))
    if markup := _MARKUP.search(text):
        problems.append(Problem("markup", f"{markup[0][:60]!r} in {name}"))
    return problems


def _mojibake(name: str, text: str) -> list[Problem]:
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    text = text[:_MOST_REPAIRED]
    if not is_bad(text):
        return []
    fixed = fix_encoding(text)
    if fixed == text:
        return []
    place = next((i for i, (a, b) in enumerate(zip(text, fixed, strict=False)) if a != b), 0)
    start = max(0, place - 10)
    return [Problem("mojibake", f"{text[start : place + 15]!r} in {name} was {fixed[start : place + 12]!r}")]


def _too_long(document: str, limits: TextLimits) -> list[Problem]:
    if len(document) > limits.max_document_characters:
        return [Problem("long_document", f"{len(document):,} characters")]
    # a text that is short as a whole has no long line, and one that has no long line no long token
    if len(document) > limits.max_token_characters:
        longest_line = max(map(len, document.split("\n")))
        if longest_line > limits.max_line_characters:
            return [Problem("long_line", f"{longest_line:,} characters")]
        if longest_line > limits.max_token_characters:
            longest = max(map(len, document.split()))
            if longest > limits.max_token_characters:
                return [Problem("long_token", f"{longest:,} characters")]
    return []


def _is_first_line(document: str, summary_words: list[str]) -> bool:
    line, found, _ = document.partition("\n")
    if not found or len(line) > 500:
        return False
    words = key_words(line)
    return words == summary_words or key_words(_TITLE_LABEL.sub("", line)) == summary_words


def _script(document: str, summary: str) -> list[Problem]:
    scripts = [_main_script(document[:2000]), _main_script(summary[:2000])]
    if None in scripts or scripts[0] == scripts[1]:
        return []
    return [Problem("script_mismatch", f"document in {scripts[0]}, summary in {scripts[1]} letters")]


def _main_script(text: str) -> str | None:
    """The script of nine letters in ten, if one has so many."""
    counts = {name: len(letters.findall(text)) for name, letters in _LETTERS.items()}
    name = max(counts, key=lambda key: counts[key])
    return name if counts[name] >= 4 and counts[name] >= 0.9 * sum(counts.values()) else None
