"""What the documentation names must be there: commands and options, make targets, stages, parameters, files."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
import typer.main
from ruamel.yaml import YAML

from precis import commands

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "data/source/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^ *```(?P<language>[^\n`]*)\n(?P<code>.*?)^ *```", re.MULTILINE | re.DOTALL)
# a command at the start of a line, of a code span or behind a pipe, with variables or `nice` before it
START = r"(?:^|[|;&(]\s*|\$ )(?:[A-Z_]+=\S+\s+)*(?:nice -n \d+ |sudo |time )?"
# an experiment of MLflow whose name looks like a command
NO_COMMANDS = {"precis promotions"}
# files of these suffixes are no parameters, though `model.json` looks like one
FILE = re.compile(r"\.(json|jsonl|yaml|yml|safetensors|csv|md|html|txt|parquet|lock|py|svg|png|onnx)\b")
# what a run makes; everything else below the root must be in the repository
MADE = ("reports/", "models/", "data/", ".work/")

pages = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def code_spans(page: Path) -> list[str]:
    """Code in running text."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [span.replace("\n", " ") for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def command_lines(page: Path) -> Iterator[str]:
    """Lines that a reader may type: code spans, fenced shell blocks and indented ones."""
    yield from code_spans(page)
    text = page.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        if block["language"].strip() in ("sh", "bash", "console", ""):
            yield from block["code"].replace("\\\n", " ").splitlines()
    for line in FENCE.sub("", text).replace("\\\n", " ").splitlines():
        if line.startswith("    "):
            yield line.strip()


def used(page: Path, program: str) -> Iterator[tuple[str, str]]:
    """The word behind a program's name, and what follows it up to the next pipe or comment."""
    pattern = re.compile(rf"{START}{program} (?P<word>[a-z][\w@-]*)(?P<rest>[^|;#]*)", re.MULTILINE)
    for line in command_lines(page):
        for found in pattern.finditer(line):
            yield found["word"], found["rest"]


@cache
def options() -> dict[str, set[str]]:
    """The options of every command of `precis`."""
    found: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(commands.__path__):
        command = getattr(importlib.import_module(f"precis.commands.{module.name}"), module.name)
        app = command if isinstance(command, typer.Typer) else typer.Typer()
        if app is not command:
            app.command(module.name)(command)
        parts = [typer.main.get_command(app)]
        parts += getattr(parts[0], "commands", {}).values()
        found[module.name] = {
            option
            for part in parts
            for parameter in part.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        } | {"--help"}
    return found


@cache
def parameter_paths() -> set[str]:
    """Every key of params.yaml, sections too."""
    paths: set[str] = set()

    def add(prefix: str, values: object) -> None:
        for key, value in values.items() if isinstance(values, dict) else ():
            paths.add(f"{prefix}{key}")
            add(f"{prefix}{key}.", value)

    add("", YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    return paths


@cache
def stages() -> dict[str, dict]:
    return YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@cache
def made_paths() -> str:
    """What stages write, and what the code names, as one text to search."""
    sources = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "flows").glob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
    ]
    return "\n".join(
        path.read_text(encoding="utf-8") for path in [*sources, ROOT / "dvc.yaml", ROOT / "Makefile"]
    )


@pages
def test_every_command_and_option_exists(page: Path) -> None:
    wrong = []
    for command, rest in used(page, "precis"):
        if command not in options():
            wrong += {f"precis {command}"} - NO_COMMANDS
        else:
            given = re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)
            wrong += [f"precis {command} {option}" for option in given if option not in options()[command]]
    assert not wrong


@pages
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {target for target, _ in used(page, "make")} <= targets


@pages
def test_every_stage_that_dvc_is_asked_for_exists(page: Path) -> None:
    asked = {
        word.split("@")[0]
        for command, rest in used(page, "dvc")
        if command == "repro"
        for word in re.findall(r"(?<!\S)[a-z][\w@]*", rest)
    }
    assert asked <= set(stages())


@pages
def test_every_parameter_exists(page: Path) -> None:
    sections = {path for path in parameter_paths() if "." not in path}
    pattern = re.compile(rf"(?<![\w./-])((?:{'|'.join(sorted(sections))})(?:\.[a-z_]+)+)(?![\w/(])")
    mentioned = {
        path
        for line in [*code_spans(page), *command_lines(page)]
        for path in pattern.findall(FILE.sub("/", line))
    }
    assert mentioned <= parameter_paths()


@pages
def test_the_keys_of_yaml_examples_exist(page: Path) -> None:
    wrong = []
    for block in FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["language"].strip() != "yaml":
            continue
        values = YAML(typ="safe").load(block["code"])
        if isinstance(values, dict) and set(values) & parameter_paths():
            for section, keys in values.items():
                wrong += [
                    f"{section}.{key}"
                    for key in (keys if isinstance(keys, dict) else ())
                    if f"{section}.{key}" not in parameter_paths()
                ]
    assert not wrong


@pages
def test_every_file_exists(page: Path) -> None:
    """A code span with a slash is a file of the repository, or one that the code or dvc.yaml makes."""
    tops = {path.name for path in ROOT.iterdir()} - {".git", ".venv", ".work"}
    wrong = []
    for span in code_spans(page):
        path = span.strip().split(":")[0].removesuffix("/…").rstrip("/")
        if "/" not in path or re.search(r"[\s*<>|=]", path) or path.split("/")[0] not in tops:
            continue
        # NAME.py stands for any file of its folder
        if (ROOT / path).exists() or (Path(path).stem.isupper() and (ROOT / path).parent.is_dir()):
            continue
        if not (path + "/").startswith(MADE) or not _made(path):
            wrong.append(path)
    assert not wrong


def _made(path: str) -> bool:
    parts = path.split("/")
    return parts[-1] in made_paths() or (len(parts) > 1 and parts[-1].isupper())


@pages
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", page.read_text(encoding="utf-8")))
    inside = [link for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in inside if not (page.parent / link).exists()] == []


@pages
def test_every_module_exists(page: Path) -> None:
    packages = {path.name for path in (ROOT / "src/precis").iterdir() if path.is_dir()}
    names = {
        name
        for span in code_spans(page)
        for name in re.findall(r"(?<![\w./])(precis\.\w+\.\w+)", span)
        if name.split(".")[1] in packages
    }
    assert [name for name in sorted(names) if importlib.util.find_spec(name) is None] == []
