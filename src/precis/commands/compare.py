"""`precis compare A B`: the same documents side by side, and whether the difference is one."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.reporting.differences import Compared
    from precis.reporting.systems import System

REPORTS = Path("reports")
TEST = Path("data/prepared/test.parquet")
METRICS_FILE = "metrics.json"
DOCUMENTS = 40  # shown on the page


def compare(
    a: Annotated[
        str, typer.Argument(help="A name in reports/, a folder with an evaluation, or an MLflow run.")
    ],
    b: Annotated[str, typer.Argument(help="Another one: differences are B less A.")],
    output: Annotated[Path, typer.Option(help="The page to write.")] = REPORTS / "compare.html",
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
    log: Annotated[bool, typer.Option(help="Add page and differences to B's MLflow run.")] = True,
) -> None:
    """Compare two evaluations: the same documents side by side, differences with intervals."""
    from precis.files import atomic_path
    from precis.params import load_params
    from precis.reporting.differences import compare_documents, comparison_page, worst_first
    from precis.reporting.index_page import find_documents

    settings = load_params().evaluation
    with _system(a) as (system_a, _), _system(b) as (system_b, run_b):
        compared = compare_documents(
            system_a,
            system_b,
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=settings.seed,
        )
        chosen = worst_first(compared, DOCUMENTS)
        documents = find_documents(TEST, set(chosen)) if TEST.is_file() else {}
        page = comparison_page(
            system_a, system_b, compared, documents, chosen=chosen, confidence=settings.confidence
        )
        with atomic_path(output) as path:
            path.write_text(page, encoding="utf-8")
        _tell(system_a, system_b, compared, output, as_json=as_json)
        if log:
            _log(a, b, run_b, output, compared)


def _tell(a: System, b: System, compared: Compared, output: Path, *, as_json: bool) -> None:
    if as_json:
        told = {"documents": len(compared.ids), "signature": compared.signature, **compared.metrics}
        print(json.dumps({**told, "page": str(output)}, indent=2))
        return
    print(
        f"{b.title} less {a.title}, {len(compared.ids):,} documents, {compared.signature or 'convention unknown'}"
    )
    for name, difference in compared.differences.items():
        verdict = "" if difference.low <= 0 <= difference.high else "  *"
        print(
            f"  {name:<7} {difference.mean:+6.2f}  [{difference.low:+.2f}, {difference.high:+.2f}]"
            f"  p {difference.p_value:.4f}{verdict}"
        )
    print(f"page: {output}")


def _log(a: str, b: str, run_id: str | None, page: Path, compared: Compared) -> None:
    from precis.training.tracking import configure, run_of

    if run_id is None:
        model_directory = Path("models") / b
        run_id = run_of(model_directory) if model_directory.is_dir() else None
    if run_id is None:
        print("no MLflow run of the second one is known: the page is not logged", file=sys.stderr)
        return
    from mlflow.exceptions import MlflowException

    client = configure()
    try:
        client.log_artifact(run_id, str(page), "comparison")
        client.set_tag(run_id, "precis.compared_with", a)
        for name, value in compared.metrics.items():
            client.log_metric(run_id, name, value)
    except MlflowException as error:
        raise PrecisError(
            f"MLflow did not take the comparison for run {run_id}: {error}; the page is {page}"
        ) from error


@contextmanager
def _system(name: str) -> Iterator[tuple[System, str | None]]:
    """The evaluation of that name, and its MLflow run if it comes from one."""
    from precis.reporting.systems import read_system

    for directory in (Path(name), REPORTS / name, REPORTS / "baselines" / name):
        if (directory / METRICS_FILE).is_file():
            yield read_system(directory), None
            return
    with tempfile.TemporaryDirectory(prefix="precis-compare-") as temporary:
        directory = _download(name, Path(temporary))
        yield replace(read_system(directory), name=f"run {name[:8]}"), name


def _download(run_id: str, temporary: Path) -> Path:
    from precis.training.tracking import configure

    client = configure()
    from mlflow.exceptions import MlflowException

    try:
        directory = Path(client.download_artifacts(run_id, "evaluation", str(temporary)))
    except (MlflowException, OSError) as error:
        raise PrecisError(
            f"{run_id!r} is no folder with {METRICS_FILE}, no name in {REPORTS}/, and MLflow has no "
            f"evaluation of a run of that id ({error}): run `dvc repro evaluate`, or give another name"
        ) from error
    return directory
