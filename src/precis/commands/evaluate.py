"""`precis evaluate FILE`: score a model on anybody's labelled documents."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.corpora.columns import Columns
    from precis.params import Params

DEFAULT_MODEL = "models/pointer"
ROWS_FILE = "rows.parquet"


def evaluate(
    file: Annotated[
        str,
        typer.Argument(
            help="Documents with summaries: JSON Lines, CSV, TSV or Parquet; a file, a folder or a URL."
        ),
    ],
    model: Annotated[
        str, typer.Option(help="models:/NAME@ALIAS, runs:/ID, or a model's folder.")
    ] = DEFAULT_MODEL,
    document: Annotated[str, typer.Option(help="The column of the documents.")] = "document",
    summary: Annotated[str, typer.Option(help="The column of the summaries.")] = "summary",
    row_id: Annotated[
        str | None, typer.Option("--id", help="A column with ids, by which `compare` pairs documents.")
    ] = None,
    references: Annotated[
        str | None, typer.Option(help="A column with a list of all acceptable summaries.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A folder for metrics.json, summaries.jsonl and tables.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a decoding parameter, as NAME=VALUE.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all metrics as JSON.")] = False,
) -> None:
    """Score a model on a file of your own: ROUGE with intervals, and what summaries look like.

    The conventions (stemming, several references, intervals) are those of params.yaml: evaluation. For the test split
    of the project's corpus, run `dvc repro evaluate`; `precis compare` takes the folder of --out.
    """
    from precis.corpora.columns import Columns
    from precis.opening import located
    from precis.params import load_params
    from precis.serving.settings import read_values
    from precis.stages.evaluate import evaluate as score

    params = load_params()
    changes = read_values(settings or [])
    columns = Columns(document, summary, row_id, references)
    with tempfile.TemporaryDirectory(prefix="precis-evaluate-") as temporary, located(model) as found:
        rows = Path(temporary, ROWS_FILE)
        num_left_out = _write_rows(file, columns, rows, params)
        if num_left_out:
            print(f"{num_left_out:,} rows cannot be used and are left out", file=sys.stderr)
        output = Path(temporary, "out") if out is None else out
        decoding = {**found.decoding, **changes}
        metrics = score(found.directory, rows, output, decoding=decoding, settings=params.evaluation)
        signature = (output / "plots" / "signature.txt").read_text(encoding="utf-8").strip()
    if as_json:
        print(
            json.dumps(
                {"model": model, "signature": signature, "left_out": num_left_out, **metrics}, indent=2
            )
        )
        return
    _tell(metrics, signature)
    if out is not None:
        print(f"written to {out}")


def _tell(metrics: dict[str, float], signature: str) -> None:
    print(f"{metrics['num_documents']:,} documents, {signature}")
    for name in ("rouge1", "rouge2", "rougeL", "rougeLsum"):
        if name in metrics:
            print(
                f"  {name:<10} {metrics[name]:6.2f}  [{metrics[f'{name}_low']:.2f}, {metrics[f'{name}_high']:.2f}]"
            )
    for name, value in metrics.items():
        if not name.startswith("rouge") and name != "num_documents":
            print(f"  {name:<34} {value:.4g}")


def _write_rows(file: str, columns: Columns, path: Path, params: Params) -> int:
    """Write the rows that have a document and a summary as Parquet; how many have not."""
    from precis.corpora.article import PREPARED_SCHEMA, batches, parquet_writer
    from precis.corpora.files import FilesReader, Limits, Retries

    files = params.corpus.files
    limits = Limits(files.max_row_bytes, files.max_decompressed_bytes, files.max_decompression_ratio)
    anywhere = {"train": None, "validation": None, "test": None}
    reader = FilesReader(file, anywhere, columns, limits, Retries(3, 1.0), path.parent / "fetched")
    left_out = 0

    def usable() -> Iterator[Any]:
        nonlocal left_out
        for article in reader.read():
            if article.problem is not None or not article.document or not article.summary:
                left_out += 1
                continue
            article.references = article.references or [article.summary]
            yield article

    num_rows = 0
    with parquet_writer(path, PREPARED_SCHEMA) as writer:
        for batch in batches(usable(), PREPARED_SCHEMA):
            writer.write_batch(batch)
            num_rows += batch.num_rows
    if not num_rows:
        raise PrecisError(
            f"{file}: none of its rows has a document in `{columns.document}` and a summary in `{columns.summary}`; "
            "--document and --summary name other columns"
        )
    return left_out
