"""`precis search`: which parameters train the best model, on validation."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from precis.errors import PrecisError, log_to_stderr

if TYPE_CHECKING:
    import optuna

    from precis.params import Params
    from precis.search.study import Score

SPACE = Path("search.yaml")
PREPARED = Path("data/prepared")
WORK = Path(".work/search")
OUTPUT = Path("reports/search")
BEAM = 4


def search(
    space: Annotated[Path, typer.Argument(help="A file of the values to try.")] = SPACE,
    model: Annotated[str, typer.Option(help="encoder_decoder, attention or pointer.")] = "pointer",
    trials: Annotated[int, typer.Option(min=1, help="How many trials in all.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.0, help="How long at the most, this time.")] = 60.0,
    documents: Annotated[int, typer.Option(min=1, help="Validation documents that score a trial.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampler.")] = 1,
    output: Annotated[Path, typer.Option(help="The folder for the recipe and the table.")] = OUTPUT,
) -> None:
    """Try parameters, and write the best ones as a recipe; the same command goes on where it was stopped."""
    from precis.corpora.overrides import load_yaml, plain
    from precis.files import atomic_directory
    from precis.params import PARAMS_FILE, check_params
    from precis.search.space import load_space
    from precis.search.study import Search, search_digest
    from precis.search.tracking import SearchRecord
    from precis.stages.entry import Terminated
    from precis.training.tracking import default_tracking_uri

    if model not in ("encoder_decoder", "attention", "pointer"):
        raise PrecisError(f"--model {model}: expected encoder_decoder, attention or pointer")
    values = load_yaml(PARAMS_FILE)
    params = check_params(plain(values))
    distributions = load_space(space, values)
    for split in ("train", "validation"):
        if not (PREPARED / f"{split}.parquet").is_file():
            raise PrecisError(f"{PREPARED / split}.parquet not found: run `dvc repro prepare` first")
    log_to_stderr()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # the trainings run elsewhere, and belong into the same store
    os.environ.setdefault("MLFLOW_TRACKING_URI", default_tracking_uri())
    signal.signal(signal.SIGTERM, _terminate)

    digest = search_digest(values, distributions, model, PREPARED, documents=documents, seed=seed)
    found = Search(
        WORK / digest,
        values,
        distributions,
        model,
        PREPARED,
        lambda folder: _score(folder, model, documents, params),
        seed,
    )
    print(f"searching in {found.folder}: {', '.join(distributions)}", flush=True)
    record = SearchRecord(
        params.tracking.experiment,
        digest,
        {"model": model, "seed": str(seed), **{name: str(one) for name, one in distributions.items()}},
    )
    try:
        study = found.run(trials=trials, minutes=minutes, record=record)
    except (KeyboardInterrupt, Terminated):
        record.end("KILLED")
        print("stopped: the same command goes on from here", file=sys.stderr)
        raise
    except PrecisError:
        record.end("FAILED")
        raise
    if not any(trial.value is not None for trial in study.get_trials()):
        record.end("FINISHED")
        print("no trial came to its end yet: give it more --minutes")
        return
    with atomic_directory(output) as directory:
        _write(study, distributions, directory)
    record.end("FINISHED", output)
    _tell(study, output)


def _score(folder: Path, model: str, documents: int, params: Params) -> Score:
    """ROUGE on validation with the best penalties, from one search with beams."""
    import torch

    from precis.evaluation.rouge import RougeConvention, parallel_rouge
    from precis.evaluation.rows import read_rows, references
    from precis.search.study import Score
    from precis.serving.summarizer import Summarizer
    from precis.serving.sweep import grid, sweep

    evaluation = params.evaluation
    torch.set_num_threads(evaluation.threads)
    rows = next(read_rows(PREPARED / "validation.parquet", documents))
    summarizer = Summarizer.load(folder / "models" / model)
    convention = RougeConvention(
        stemmer=evaluation.stemmer,
        summary_level=evaluation.summary_level,
        references=evaluation.references,
        tokenizer=evaluation.tokenizer,
    )
    with parallel_rouge(convention, evaluation.processes) as rouge:
        best = sweep(
            summarizer,
            [row["document"] for row in rows],
            [references(row) for row in rows],
            grid([BEAM], has_attention=model != "encoder_decoder"),
            rouge,
            decoding=params.decoding.model_dump(mode="json"),
            batch_size=evaluation.batch_size,
            progress=lambda _: None,
        ).best
    return Score(best.rouge1, best.rouge2, best.setting.decoding)


def _write(study: optuna.Study, names: Mapping[str, Any], directory: Path) -> None:
    from precis.corpora.overrides import save_yaml
    from precis.search.study import best_recipe, trial_rows

    save_yaml(best_recipe(study), directory / "best.yaml")
    header = ["trial", "end", "ROUGE-1", "ROUGE-2", *names]
    lines = [header, ["---"] * len(header), *trial_rows(study, names)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (directory / "trials.md").write_text(table, encoding="utf-8")


def _tell(study: optuna.Study, output: Path) -> None:
    best = study.best_trial
    said: Sequence[str] = [f"{name} {value}" for name, value in best.params.items()]
    print(
        f"the best: ROUGE-1 {best.user_attrs['rouge1']:.2f}, ROUGE-2 {best.user_attrs['rouge2']:.2f} on validation"
    )
    print("\n".join(f"  {line}" for line in said))
    print(f"all trials: {output}/trials.md; to take it: `precis recipe {output}/best.yaml`, then `dvc repro`")


def _terminate(number: int, frame: Any) -> None:
    from precis.stages.entry import Terminated

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
