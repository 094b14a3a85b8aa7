"""`precis sweep`: which decoding settings are best, on validation."""

from __future__ import annotations

import json
import re
import sys
from hashlib import blake2b
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.serving.sweep import Sweep

MODELS = Path("models")
VALIDATION = Path("data/prepared/validation.parquet")
TEST = Path("data/prepared/test.parquet")
OUTPUT = Path("reports/sweep")
WINDOW = 1024  # rows in memory
SHOWN = 10  # settings in the printed table


def sweep(
    model: Annotated[str, typer.Option(help="A folder of models/.")] = "pointer",
    documents: Annotated[int, typer.Option(min=1, help="How many validation documents to use.")] = 500,
    beams: Annotated[str, typer.Option(help="Beam sizes, with commas.")] = "1,2,4,8",
    split: Annotated[
        Path,
        typer.Option(help="Rows to choose on; the test split is refused.", show_default="validation.parquet"),
    ] = VALIDATION,
    output: Annotated[Path, typer.Option(help="The folder for table and plot.")] = OUTPUT,
    log: Annotated[bool, typer.Option(help="Add table and plot to the model's MLflow run.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the best setting as JSON.")] = False,
) -> None:
    """Score hundreds of decoding settings on validation from one search per beam size."""
    import torch

    from precis.evaluation.progress import progress_bar
    from precis.evaluation.rouge import RougeConvention, parallel_rouge
    from precis.evaluation.rows import count_rows, read_rows, references
    from precis.files import atomic_directory
    from precis.params import load_params
    from precis.reporting.sweep_chart import sweep_chart, sweep_markdown
    from precis.serving.summarizer import Summarizer
    from precis.serving.sweep import grid
    from precis.serving.sweep import sweep as score_settings

    refuse_test(split)
    params = load_params()
    evaluation = params.evaluation
    torch.set_num_threads(evaluation.threads)
    count_rows(split)
    # neighbours in the file are alike: always the same documents, but from all over it
    rows = nsmallest(
        documents,
        (row for window in read_rows(split, WINDOW) for row in window),
        key=lambda row: blake2b(row["id"].encode()).digest(),
    )
    sizes = _sizes(beams)
    summarizer = Summarizer.load(MODELS / model)
    settings = grid(sizes, has_attention=summarizer.model.name != "encoder_decoder")
    convention = RougeConvention(
        stemmer=evaluation.stemmer,
        summary_level=evaluation.summary_level,
        references=evaluation.references,
        tokenizer=evaluation.tokenizer,
    )
    with (
        parallel_rouge(convention, evaluation.processes) as rouge,
        progress_bar(len(sizes), f"{model}: beam sizes") as advance,
    ):
        found = score_settings(
            summarizer,
            [row["document"] for row in rows],
            [references(row) for row in rows],
            settings,
            rouge,
            decoding=params.decoding.model_dump(mode="json"),
            batch_size=evaluation.batch_size,
            progress=advance,
        )
    with atomic_directory(output) as directory:
        table = sweep_markdown(found, model, len(rows), convention.signature)
        (directory / "sweep.md").write_text(table, encoding="utf-8")
        (directory / "sweep.svg").write_bytes(sweep_chart(found))
        (directory / "best.json").write_text(json.dumps(found.best.setting.decoding, indent=2) + "\n")
    _tell(found, output, convention.signature, as_json=as_json)
    if log:
        _log(MODELS / model, output, found)


def refuse_test(split: Path) -> None:
    """Settings that were chosen on the test split would make its scores worthless.

    Raises:
        PrecisError: the file has documents of the test split, whatever it is called, or is missing.
    """
    if not split.is_file():
        raise PrecisError(f"{split} not found: run `dvc repro prepare` first")
    advice = f"decoding is chosen on validation only, and scored on test once; give --split {VALIDATION}"
    if re.search(r"(?<![a-z])test(?![a-z])", split.stem.lower()):
        raise PrecisError(f"{split} is the test split: {advice}")
    if TEST.is_file():
        touched = len(_documents(split) & _documents(TEST))
        if touched:
            raise PrecisError(f"{split} has {touched:,} documents of the test split, {TEST}: {advice}")


def _documents(path: Path) -> set[bytes]:
    """Digests of the documents of a file."""
    from precis.evaluation.rows import count_rows, read_rows

    count_rows(path)
    return {
        blake2b(row["document"].encode(), digest_size=16).digest()
        for window in read_rows(path, WINDOW)
        for row in window
    }


def _sizes(beams: str) -> list[int]:
    try:
        sizes = sorted({int(size) for size in beams.split(",")})
    except ValueError as error:
        raise PrecisError(f"--beams {beams}: expected numbers with commas, such as 1,2,4") from error
    if sizes[0] < 1:
        raise PrecisError(f"--beams {beams}: a beam size is at least 1")
    return sizes


def _tell(found: Sweep, output: Path, signature: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.best.setting.decoding, indent=2))
        return
    ranked = sorted(found.scored, key=lambda one: -(one.rouge1 + one.rouge2))
    print(f"{len(ranked)} settings, {signature}; the best {min(SHOWN, len(ranked))} by ROUGE-1 plus ROUGE-2:")
    for one in ranked[:SHOWN]:
        settings = "  ".join(f"{name} {value}" for name, value in one.setting.decoding.items())
        print(
            f"  {one.rouge1:6.2f} {one.rouge2:6.2f} {one.rougeL:6.2f}  {1000 * one.seconds:6.1f} ms  {settings}"
        )
    share = found.num_steps / found.num_steps_one_by_one
    print(f"decoder steps: {found.num_steps:,}, {share:.1%} of a full search for each setting")
    print(f"table and plot: {output}")


def _log(model_directory: Path, output: Path, found: Sweep) -> None:
    from precis.training.tracking import configure, run_of

    run_id = run_of(model_directory)
    if run_id is None:
        print("MLflow has no run of this model: the sweep is not logged", file=sys.stderr)
        return
    from mlflow.exceptions import MlflowException

    client = configure()
    try:
        client.log_artifacts(run_id, str(output), "sweep")
        client.log_metric(run_id, "sweep_rouge1", found.best.rouge1)
    except MlflowException as error:
        raise PrecisError(
            f"MLflow did not take the sweep for run {run_id}: {error}; table and plot are in {output}"
        ) from error
