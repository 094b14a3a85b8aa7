"""`precis summarize FILE`: summaries of texts by a trained model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from precis.errors import PrecisError, printable

if TYPE_CHECKING:
    from precis.serving.inputs import InputText
    from precis.serving.summary import Summary

DEFAULT_MODEL = "models/pointer"
FIRST_WINDOW, LARGEST_WINDOW = 16, 256  # documents that are summarized together, if so many wait
MOST_TOLD = 20  # inputs that could not be read, by name


def summarize(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Text files, folders of .txt and .jsonl files, .jsonl files; - or nothing: standard input."
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(help="models:/NAME@ALIAS, runs:/ID, a model's folder, or one of `precis export`."),
    ] = DEFAULT_MODEL,
    beam: Annotated[int | None, typer.Option(help="Hypotheses kept open; 1 is fastest.")] = None,
    min_length: Annotated[int | None, typer.Option(help="Fewest words.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Most words.")] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Write JSON Lines, and read standard input as such.")
    ] = False,
    provenance: Annotated[
        bool, typer.Option("--provenance", help="Write where every word came from; implies --jsonl.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a decoding parameter, as NAME=VALUE; again for each: for instance n_best=3, or samples=3 "
            "with temperature, top_k, top_p and seed, which draw at random.",
        ),
    ] = None,
    column: Annotated[str, typer.Option(help="The field of JSON Lines that has the text.")] = "document",
    out: Annotated[
        Path | None,
        typer.Option(help="Write into this file, which is whole or absent; .jsonl implies --jsonl."),
    ] = None,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of the model; 0: as many as there are cores.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Summarize text files, folders, JSON Lines or standard input, one summary a line.

    Output appears as input is read. What cannot be read is left out, told at the end, and makes the exit code 1. With
    several files each line begins with the file's name and a tab.
    """
    from precis.serving.inputs import STANDARD_INPUT, InputTexts, waiting
    from precis.serving.settings import read_values

    changes = {"beam_size": beam, "min_length": min_length, "max_length": max_length}
    decoding: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    decoding |= read_values(settings or [])
    # alternatives have no place in one line of text
    has_alternatives = max(decoding.get("n_best", 1), decoding.get("samples", 1)) > 1
    writes_json = jsonl or provenance or has_alternatives or (out is not None and out.suffix == ".jsonl")
    from precis.opening import open_summarizer

    summarizer = open_summarizer(model, threads=threads)
    documents = InputTexts(inputs or [STANDARD_INPUT], reads_json=jsonl, column=column)

    def line_of(document: InputText, summary: Summary) -> str:
        if writes_json:
            return json.dumps(
                {**document.about, **_fields(summary, provenance=provenance)}, ensure_ascii=False
            )
        text = summary.text.replace("\n", " ")
        return (
            f"{document.about.get('file', STANDARD_INPUT)}\t{text}" if documents.are_several_files else text
        )

    with ExitStack() as stack:
        file: TextIO | None = None
        if out is not None:
            from precis.files import atomic_path

            path = stack.enter_context(atomic_path(out))
            file = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        advance, write = stack.enter_context(_output(file, documents.number, quiet=quiet))
        for window in waiting(documents, FIRST_WINDOW, LARGEST_WINDOW):
            texts = [document.text for document in window]
            summaries = summarizer.summarize(texts, progress=advance, **decoding)
            write([line_of(*pair) for pair in zip(window, summaries, strict=True)])
    if documents.unreadable:
        problems = documents.unreadable
        listed = "\n".join(f"  {problem}" for problem in problems[:MOST_TOLD])
        more = f"\n  and {len(problems) - MOST_TOLD:,} more" if len(problems) > MOST_TOLD else ""
        raise PrecisError(f"{len(problems):,} of the inputs could not be read:\n{listed}{more}")


@contextmanager
def _output(
    file: TextIO | None, total: int | None, *, quiet: bool
) -> Iterator[tuple[Callable[[int], None], Callable[[list[str]], None]]]:
    """What is told of progress, and what writes lines: above the bar, if both are on one terminal."""
    from rich.console import Console

    from precis.evaluation.progress import progress_bar

    shares_terminal = file is None and sys.stdout.isatty() and sys.stderr.isatty()
    console = Console(stderr=not shares_terminal)
    interactive = sys.stdin.isatty() and total is None

    def write(lines: list[str]) -> None:
        if file is None and sys.stdout.isatty():
            lines = [printable(line) for line in lines]  # a summary may have copied what steers a terminal
        if console.is_terminal and shares_terminal:
            console.out("\n".join(lines), highlight=False)
            return
        # whole lines also if this is stopped in between
        (file or sys.stdout).write("".join(f"{line}\n" for line in lines))
        (file or sys.stdout).flush()

    if quiet or total == 1 or interactive:
        yield (lambda number: None), write
        return
    with progress_bar(total, "summaries", console) as advance:
        yield advance, write


def _fields(summary: Summary, *, provenance: bool) -> dict[str, Any]:
    values = summary.as_dict()
    if not provenance:
        for one in (values, *values.get("alternatives", [])):
            del one["tokens"]
    return values
