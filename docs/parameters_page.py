"""Write docs/parameters.md from params.yaml and its types: `python docs/parameters_page.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from precis.params import Check, Params, Section

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "parameters.md"
_LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):[^#\n]*(?:#(?P<comment>.*))?$")
_NAMES = {str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
_INTRODUCTION = """# Parameters

<!-- Written by docs/parameters_page.py from params.yaml and src/precis/params.py: edit those. -->

Every value that a result depends on is in `params.yaml`; the code has no defaults. The *default* here is what
`params.yaml` comes with. All keys must be there, unknown ones are refused, and all mistakes are told at once, before
anything runs. After a change `dvc repro` runs the stages named with each section, and those after them.

`precis init FILE` and `precis recipe NAME` write parameters for a corpus; `dvc params diff` shows what was changed.
"""


def page() -> str:
    """The whole page, Markdown."""
    path = ROOT / "params.yaml"
    values = YAML().load(path.read_text(encoding="utf-8"))
    comments = comments_of(path.read_text(encoding="utf-8"))
    stages = _stages(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8")))
    lines = [_INTRODUCTION]
    for name, field in Params.model_fields.items():
        lines += _section((name,), field.annotation, values[name], comments)
        lines.append(_readers(stages.get(name, [])))
    return "\n".join(lines).rstrip() + "\n"


def comments_of(text: str) -> dict[tuple[str, ...], str]:
    """The comment of every key of a YAML file, by its path; a line of nothing but comment belongs to the key above."""
    comments: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        if path and (more := re.fullmatch(r"\s+#(.*)", line)):
            key = tuple(name for _, name in path)
            comments[key] = f"{comments.get(key, '')} {more[1].strip()}".strip()
        elif found := _LINE.match(line):
            indent = len(found["indent"])
            path = [(depth, name) for depth, name in path if depth < indent] + [(indent, found["key"])]
            if found["comment"]:
                comments[tuple(name for _, name in path)] = found["comment"].strip()
    return comments


def parameters(
    section: type[Section], values: CommentedMap, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo, Any]]:
    """Every parameter below a section: its path, its type, and its value in params.yaml."""
    for name, field in section.model_fields.items():
        if _is_group(field.annotation):
            yield from parameters(field.annotation, values[name], (*path, name))
        else:
            yield (*path, name), field, values[name]


def _section(
    path: tuple[str, ...], section: Any, values: CommentedMap, comments: dict[tuple[str, ...], str]
) -> list[str]:
    lines = [f"## {path[0]}", "", _sentence(section.__doc__), ""]
    lines += ["| parameter | type | default | unit | what it is |", "| --- | --- | --- | --- | --- |"]
    for key, field, value in parameters(section, values, path):
        kind = (
            "action: `quarantine`, `report`; max_share: number ≥ 0, ≤ 1"
            if field.annotation is Check
            else _kind(field)
        )
        unit, about = unit_and_meaning(comments, key, field)
        lines.append(f"| `{'.'.join(key)}` | {kind} | {_shown(value)} | {unit} | {about} |")
    return [*lines, ""]


def unit_and_meaning(
    comments: dict[tuple[str, ...], str], key: tuple[str, ...], field: FieldInfo
) -> tuple[str, str]:
    """What the comment of a parameter says; its unit stands first, in square brackets."""
    # of `{train: …, test: …}` on one line the comment is about all
    comment = comments.get(key) or comments.get(key[:-1]) or ""
    if get_origin(field.annotation) is Literal:
        # the type has the choices already
        choices = " | ".join(str(choice) for choice in get_args(field.annotation))
        comment = comment.removeprefix(choices).removeprefix("; ")
    found = re.match(r"(?:\[(?P<unit>[^]]+)\] ?)?(?P<meaning>.*)", comment)
    assert found is not None
    return found["unit"] or "", found["meaning"]


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section) and annotation is not Check


def _kind(field: FieldInfo) -> str:
    """The type and its bounds in words, for instance "integer ≥ 1, or null"."""
    annotation = field.annotation
    arguments = get_args(annotation) if get_origin(annotation) is UnionType else (annotation,)
    names = []
    for argument in arguments:
        if get_origin(argument) is Literal:
            names.append(", ".join(f"`{choice}`" for choice in get_args(argument)))
        elif get_origin(argument) is list:
            names.append(f"list of {_NAMES[get_args(argument)[0]]}s")
        elif argument is not NoneType:
            names.append(_NAMES[argument])
    bounds = [
        f"{sign} {getattr(limit, bound):,}"
        for limit in field.metadata
        for bound, sign in _BOUNDS.items()
        if hasattr(limit, bound)
    ]
    if any(getattr(limit, "min_length", None) for limit in field.metadata):
        bounds.append("not empty")
    kind = f"{names[0]} {', '.join(bounds)}" if bounds else names[0]
    return f"{kind}, or null" if NoneType in arguments else kind


def _shown(value: Any) -> str:
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, dict):
        return ", ".join(f"{_shown(item)}" for item in value.values())
    return f"`{value}`"


def _sentence(docstring: str | None) -> str:
    return " ".join((docstring or "").split())


def _stages(dvc: dict[str, Any]) -> dict[str, list[str]]:
    """The stages that read each section, in the order of dvc.yaml."""
    readers: dict[str, list[str]] = {}
    for name, stage in dvc["stages"].items():
        for key in stage.get("params", []):
            section = str(key).split(".")[0]
            if name not in readers.setdefault(section, []):
                readers[section].append(name)
    return readers


def _readers(stages: list[str]) -> str:
    if not stages:
        return "No stage reads it: `precis promote` does.\n"
    return f"Read by {', '.join(f'`{stage}`' for stage in stages)}.\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
