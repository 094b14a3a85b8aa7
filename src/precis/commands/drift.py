"""`precis drift FILE`: do new documents still look like the training corpus?"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from precis.errors import PrecisError


def drift(
    file: Annotated[
        str, typer.Argument(help="New documents, no summaries needed: a file, a folder or a URL.")
    ],
    model: Annotated[
        Path, typer.Option(help="A model's folder, or the vocabulary's: where profile.json is.")
    ] = Path("data/vocabulary"),
    column: Annotated[
        str | None,
        typer.Option(help="The column of the documents; by default what params.yaml: corpus.columns names."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    fail: Annotated[bool, typer.Option(help="Exit with 2 when there is something to do.")] = False,
) -> None:
    """Compare new documents with the training corpus: nothing to do, retrain, or rebuild the vocabulary."""
    from precis.corpora.columns import Columns
    from precis.corpora.files import FilesReader, Limits, Retries
    from precis.corpora.profile import Profile, compare
    from precis.text.vocabulary import Vocabulary

    profile = Profile.load(model / "profile.json")
    column = column or _column_of_the_corpus()
    shared = model / "shared.txt"
    vocabulary = Vocabulary.load(shared if shared.is_file() else model / "source.txt")
    limits = Limits(row_bytes=4_000_000, decompressed_bytes=20_000_000_000, decompression_ratio=200)
    anywhere = {"train": None, "validation": None, "test": None}
    with tempfile.TemporaryDirectory() as folder:
        reader = FilesReader(file, anywhere, Columns(column), limits, Retries(3, 1.0), Path(folder))
        documents, unreadable = [], 0
        for article in reader.read():
            if article.document is None or article.problem is not None:
                unreadable += 1
            else:
                documents.append(article.document)
    if unreadable:
        print(f"{unreadable:,} rows cannot be read and are left out", file=sys.stderr)
    if not documents:
        raise PrecisError(f"{file}: none of its rows has a document in column `{column}`")
    found = compare(documents, profile, vocabulary)
    if as_json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        print(f"{found.verdict}: {found.reason}\n")
        print(f"{found.num_documents:,} documents compared with {profile.num_documents:,} of training")
        for finding in found.findings:
            mark = "!" if finding.alarm else " "
            print(f"{mark} {finding.name:<20} {finding.says} (p = {finding.p_value:.2g})")
        if found.new_words:
            print(f"\nNew words that recur: {', '.join(found.new_words)}")
    if fail and found.verdict != "nothing":
        raise typer.Exit(2)


def _column_of_the_corpus() -> str:
    """New documents are likely to come as those of the corpus did."""
    from precis.params import PARAMS_FILE, load_params

    return load_params().corpus.columns.document if PARAMS_FILE.is_file() else "document"
