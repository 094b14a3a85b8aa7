"""`precis summarize FILE`: summaries of texts by a trained model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.serving.summarizer import Summarizer
    from precis.serving.summary import Summary

DEFAULT_MODEL = "models/pointer"
WINDOW = 256  # documents read before they are summarized together
STANDARD_INPUT = "-"


def summarize(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Text files, folders of .txt files, .jsonl files; - or nothing: standard input."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="A model folder, or models:/NAME@ALIAS in the registry.")
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
    column: Annotated[str, typer.Option(help="Where JSON Lines have the text.")] = "document",
    threads: Annotated[int, typer.Option(help="Threads of the model; 0: as many as there are cores.")] = 0,
) -> None:
    """Summarize text files, folders, JSON Lines or standard input, one summary a line."""
    import torch

    from precis.serving.settings import read_values

    if threads:
        torch.set_num_threads(threads)
    summarizer = _load(model)
    changes = {"beam_size": beam, "min_length": min_length, "max_length": max_length}
    decoding = {name: value for name, value in changes.items() if value is not None}
    decoding |= read_values(settings or [])
    # alternatives have no place in one line of text
    has_alternatives = max(decoding.get("n_best", 1), decoding.get("samples", 1)) > 1
    writes_json = jsonl or provenance or has_alternatives
    unreadable: list[str] = []
    window: list[tuple[dict[str, Any], str]] = []
    for item in _texts(inputs or [STANDARD_INPUT], jsonl, column, unreadable):
        window.append(item)
        # a person who types waits for each line
        if len(window) == (1 if sys.stdin.isatty() and not inputs else WINDOW):
            _write(summarizer, window, decoding, writes_json=writes_json, provenance=provenance)
            window = []
    _write(summarizer, window, decoding, writes_json=writes_json, provenance=provenance)
    if unreadable:
        listed = "\n".join(f"  {problem}" for problem in unreadable)
        raise PrecisError(f"{len(unreadable)} of the inputs could not be read:\n{listed}")


def _load(model: str) -> Summarizer:
    from precis.serving.summarizer import Summarizer

    if not model.startswith("models:/"):
        from precis.registry.manifest import combined_digest, digests_of

        return Summarizer.load(model, digest=combined_digest(digests_of(model)))
    from precis.registry.packaging import unpacked
    from precis.registry.resolve import resolve
    from precis.training.tracking import configure

    version = resolve(configure(), model, "precis")
    with unpacked(version.uri, digest=version.digest) as directory:
        return Summarizer.load(
            directory, run_id=version.run_id, model_version=str(version.number), digest=version.digest
        )


def _write(
    summarizer: Summarizer,
    window: list[tuple[dict[str, Any], str]],
    decoding: dict[str, Any],
    *,
    writes_json: bool,
    provenance: bool,
) -> None:
    if not window:
        return
    summaries = summarizer.summarize([text for _, text in window], **decoding)
    for (about, _), summary in zip(window, summaries, strict=True):
        if writes_json:
            print(json.dumps({**about, **_fields(summary, provenance=provenance)}, ensure_ascii=False))
        else:
            print(summary.text.replace("\n", " "))
    sys.stdout.flush()


def _fields(summary: Summary, *, provenance: bool) -> dict[str, Any]:
    values = summary.as_dict()
    if not provenance:
        for one in (values, *values.get("alternatives", [])):
            del one["tokens"]
    return values


def _texts(
    inputs: list[str], jsonl: bool, column: str, unreadable: list[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    """What is known of each text, and the text; what cannot be read is told of at the end."""
    for name in inputs:
        if name == STANDARD_INPUT:
            if jsonl:
                yield from _json_lines("standard input", sys.stdin, column, unreadable)
            elif sys.stdin.isatty():
                for line in sys.stdin:
                    yield {}, line
            else:
                yield {}, sys.stdin.read()
            continue
        path = Path(name)
        paths = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not paths:
            unreadable.append(f"{name}: no .txt file in this folder")
        for file in paths:
            try:
                if file.suffix == ".jsonl":
                    with file.open(encoding="utf-8") as lines:
                        yield from _json_lines(str(file), lines, column, unreadable)
                else:
                    yield {"file": str(file)}, file.read_text(encoding="utf-8")
            except FileNotFoundError:
                unreadable.append(f"{file}: not found")
            except OSError as error:
                unreadable.append(f"{file}: {error.strerror}")
            except UnicodeDecodeError as error:
                unreadable.append(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})")


def _json_lines(
    name: str, lines: Any, column: str, unreadable: list[str]
) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            text = row[column]
        except ValueError as error:
            unreadable.append(f"{name}, line {number}: no JSON ({error})")
        except (KeyError, TypeError):
            unreadable.append(f"{name}, line {number}: no {column!r} in it; --column names another")
        else:
            yield {"id": row["id"]} if "id" in row else {}, str(text)
