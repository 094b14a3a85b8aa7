"""The default corpus: docstrings of the locked environment and of the standard library.

The packages are those that precis needs at run time, as their metadata says, so that the corpus is the same
wherever the same versions are installed. Source files are parsed, never imported. A pair is a summary line as in
PEP 257 and what follows it. The group is the source file.
"""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from precis.corpora.article import Article
from precis.processes import worker_processes

# builds of these differ from machine to machine
_PLATFORM_PACKAGES = re.compile(r"nvidia-|cuda|triton|intel-|mkl|pywin32|colorama|tzdata")
# copies of other packages would put one text into two groups; tests describe themselves
_SKIPPED_FOLDERS = {
    *("test", "tests", "testing", "idle_test", "__pycache__", "site-packages", "dist-packages"),
    *("_vendor", "_vendored", "vendor", "vendored", "_vendored_packages", "externals", "third_party"),
}
# Linux distributions ship these apart from the rest of the standard library, or change them
_SPLIT_OFF_MODULES = {
    *("idlelib", "tkinter", "turtledemo", "turtle.py", "lib2to3", "distutils", "ensurepip", "venv"),
    *("sitecustomize.py", "usercustomize.py", "_distutils_system_mod.py"),
}
_BUILD_FILES = re.compile(r"_sysconfigdata|config-\d")
_NOISE = re.compile(
    r"""^[\w.]+\s*\(.*\)            # a signature
    | ^[^\w\s"'`*(\[<{$\\]          # a directive, a field, a rule, a doctest
    | ^(?:alias\s+(?:for|of|to)|see\s+:|same\s+as\s+[`:]|auto-?generated|deprecated|doctest)\b
    | ^(?:copyright|licen[cs]e)\b
    | ^(?:parameters|args|arguments|returns?|examples?|notes?|raises|attributes|usage)\s*:*$
    | -\*-\s*coding
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FILES_A_TASK = 100
_LONGER_WORD = re.compile(r"\w{4,}")


@dataclass(frozen=True)
class SourceFile:
    """A Python file, and the name that it has on every machine."""

    name: str
    path: Path


@dataclass(frozen=True)
class Wanted:
    """Which pairs are taken.

    Attributes:
        min_summary_words: of the summary line, split at white space.
        max_summary_words: the same.
        min_document_words: of what follows the summary line.
        min_overlap: the share of the summary's words of four letters or more that the document must have; 0
            takes every pair. A summary line that its document says nothing of teaches a model to make things
            up; Rush et al. (2015, section 7.1) leave out such headlines.
    """

    min_summary_words: int
    max_summary_words: int
    min_document_words: int
    min_overlap: float

    def takes(self, summary: str, document: str) -> bool:
        """Whether this is a pair to learn from."""
        if not self.min_summary_words <= len(summary.split()) <= self.max_summary_words:
            return False
        if len(document.split()) < self.min_document_words:
            return False
        words = _LONGER_WORD.findall(summary.lower())
        if not words:
            return self.min_overlap == 0
        found = set(_LONGER_WORD.findall(document.lower()))
        return sum(word in found for word in words) >= self.min_overlap * len(words)


def read_docstrings(distribution: str, wanted: Wanted) -> Iterator[Article]:
    """The pairs of all packages that `distribution` needs, in the order of their files' names.

    Args:
        distribution: the installed distribution whose requirements are mined; itself left out.
        wanted: which pairs are taken.
    """
    by_name = {file.name: file for file in [*_standard_library(), *_required_files(distribution)]}
    files = [by_name[name] for name in sorted(by_name)]
    # parsing takes a minute of one core; the order of the files stays, whoever parses them
    with worker_processes() as processes:
        for pairs in processes.map(partial(_mine_all, wanted=wanted), files, chunksize=_FILES_A_TASK):
            yield from pairs


def _mine_all(file: SourceFile, *, wanted: Wanted) -> list[Article]:
    return list(mine(file, wanted))


def mine(file: SourceFile, wanted: Wanted) -> Iterator[Article]:
    """The pairs of one source file, in the order of the file; a file that does not parse has none."""
    source = file.path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return  # two lines and a blank one between them need triple quotes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in other people's strings
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError):
            return
    taken: dict[str, int] = {}
    for name, docstring in _docstrings(tree, ""):
        pair = split_docstring(docstring)
        if pair is None:
            continue
        summary, document = pair
        if not wanted.takes(summary, document):
            continue
        taken[name] = taken.get(name, 0) + 1
        number = f"#{taken[name]}" if taken[name] > 1 else ""
        yield Article(f"{file.name}:{name}{number}", document, summary, group=file.name)


def split_docstring(docstring: str) -> tuple[str, str] | None:
    """Summary line and the rest, or None when the docstring has no summary line of its own (PEP 257)."""
    try:
        docstring.encode()
    except UnicodeEncodeError:
        return None  # "\ud800" in a string that nobody meant as text
    summary, _, rest = inspect.cleandoc(docstring).partition("\n")
    blank, _, document = rest.partition("\n")
    if blank.strip() or not document.strip():
        return None
    summary = summary.strip()
    if _NOISE.search(summary) or not re.search(r"[^\W\d_]", summary):
        return None
    return summary, document.strip("\n").rstrip()


def _docstrings(node: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        name = prefix if isinstance(node, ast.Module) else f"{prefix}.{node.name}".lstrip(".")
        docstring = ast.get_docstring(node, clean=False)
        if docstring is not None:
            yield name or "module", docstring
        prefix = name
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _docstrings(child, prefix)


def _required_files(distribution: str) -> Iterator[SourceFile]:
    for required in required_distributions(distribution):
        for file in required.files or []:
            # one package may belong to two distributions: the caller keeps one file of a name
            if file.suffix == ".py" and _wanted(file):
                path = Path(str(file.locate()))
                if path.is_file():
                    yield SourceFile(file.as_posix(), path)


def required_distributions(name: str) -> list[metadata.Distribution]:
    """What is installed because `name` needs it, directly or not, sorted by name; optional parts left out."""
    found: dict[str, metadata.Distribution] = {}
    extras: dict[str, frozenset[str]] = {}
    pending = [(canonicalize_name(name), frozenset[str]())]
    while pending:
        current, wanted = pending.pop()
        if current in found and wanted <= extras[current]:
            continue
        try:
            found[current] = metadata.distribution(current)
        except metadata.PackageNotFoundError:
            continue  # a requirement of another platform
        extras[current] = extras.get(current, frozenset()) | wanted
        for requirement in map(Requirement, found[current].requires or []):
            if _PLATFORM_PACKAGES.match(canonicalize_name(requirement.name)):
                continue
            if _holds(requirement, extras[current]):
                pending.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    found.pop(canonicalize_name(name), None)
    return [found[key] for key in sorted(found)]


def _holds(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _standard_library() -> Iterator[SourceFile]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in root.rglob("*.py"):
        relative = PurePosixPath(path.relative_to(root).as_posix())
        if _wanted(relative) and relative.parts[0] not in _SPLIT_OFF_MODULES:
            yield SourceFile(f"python/{relative}", path)


def _wanted(path: PurePosixPath) -> bool:
    return (
        ".." not in path.parts
        and not path.is_absolute()
        and not _SKIPPED_FOLDERS.intersection(path.parts[:-1])
        and not any(_BUILD_FILES.match(part) for part in path.parts)
        and not path.name.startswith(("test_", "conftest"))
    )
