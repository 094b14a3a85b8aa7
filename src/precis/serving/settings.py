"""What may be said about decoding when summaries are asked for, and of which kind each value is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from precis.errors import PrecisError


@dataclass(frozen=True)
class _Kind:
    """The values of a parameter: a type, the least of them, or the only ones."""

    type: type
    least: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        if self.choices:
            return " or ".join(self.choices)
        name = {int: "a whole number", float: "a number", bool: "true or false", list: "a list of words"}[
            self.type
        ]
        return name if self.least is None else f"{name} from {self.least:g}"

    def allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.type is list:
            return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
        if self.type is bool or isinstance(value, bool):
            return self.type is bool and isinstance(value, bool)
        is_number = isinstance(value, int | float if self.type is float else int)
        return is_number and (self.least is None or value >= self.least)


KINDS = {
    "beam_size": _Kind(int, 1),
    "min_length": _Kind(int, 0),
    "max_length": _Kind(int, 1),
    "length_penalty": _Kind(str, choices=("none", "average", "wu")),
    "length_alpha": _Kind(float, 0),
    "coverage_penalty": _Kind(str, choices=("none", "summary", "wu")),
    "coverage_beta": _Kind(float, 0),
    "block_ngrams": _Kind(int, 0),
    "block_exceptions": _Kind(list),
    "banned_words": _Kind(list),
    "frequent_words": _Kind(int, 0),
    "shortlist": _Kind(bool),
    "int8": _Kind(bool),
    "bfloat16": _Kind(bool),
    "n_best": _Kind(int, 1),
    "groups": _Kind(int, 1),
    "diversity": _Kind(float, 0),
    "stop_early": _Kind(bool),
    "samples": _Kind(int, 0),
    "temperature": _Kind(float, 0),
    "top_k": _Kind(int, 0),
    "top_p": _Kind(float, 0),
    "seed": _Kind(int, 0),
}


def check_values(values: Mapping[str, Any]) -> None:
    """See that every value is of its kind.

    Raises:
        PrecisError: some are not; it names all of them.
    """
    problems = [
        f"  {name}: expected {KINDS[name].described}, found {value!r}"
        for name, value in values.items()
        if name in KINDS and not KINDS[name].allows(value)
    ]
    if problems:
        raise PrecisError("these decoding parameters cannot be used:\n" + "\n".join(problems))


def read_values(written: Iterable[str]) -> dict[str, Any]:
    """Values from a command line, each NAME=VALUE; a list has commas between its words.

    Raises:
        PrecisError: one of them is not of that form, or there is no parameter of that name.
    """
    values: dict[str, Any] = {}
    for one in written:
        name, equals, text = one.partition("=")
        if not equals or name not in KINDS:
            raise PrecisError(f"--set {one}: expected NAME=VALUE, NAME one of {', '.join(sorted(KINDS))}")
        values[name] = _read(KINDS[name], text)
    check_values(values)
    return values


def _read(kind: _Kind, text: str) -> Any:
    if kind.type is list:
        return [word for word in text.split(",") if word]
    if kind.type is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return kind.type(text)
    except ValueError:
        return text  # what it should have been is told when it is checked
