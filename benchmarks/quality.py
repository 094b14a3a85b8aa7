"""Train on a corpus within a time budget, choose decoding on validation, and score the test split once.

    python benchmarks/quality.py CORPUS_DIR --recipe NAME --budget MINUTES --seeds 1 2 3

Everything runs through the stages of the pipeline, in a folder below .work/quality/ whose name says what was tried, and
with which code: a run that was cut off goes on there, and what has its scores is not scored again. With --init in the
place of --recipe the parameters are those that `precis init` proposes for the corpus. Each model and seed is trained
for at most --budget minutes; `precis sweep` chooses its decoding on validation. With several seeds a document's
score is its mean over them, and a line tells how much seeds differ. A block of rows goes into benchmarks/RESULTS.md,
and a run into MLflow.

With --on-validation the validation split is scored in the place of the test split, which is not read, and nothing
is added to the results: for comparing settings. --against FOLDER then gives the difference to an earlier one.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from quality_runs import NOTE, convention_of
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from precis.commands.recipe import recipe_file
from precis.corpora.overrides import load_yaml, merge, plain, recipe_changes, save_yaml
from precis.errors import PrecisError
from precis.evaluation.rouge import ROUGE_TYPES, parallel_rouge
from precis.evaluation.rows import count_rows, read_rows, references
from precis.evaluation.significance import bootstrap, paired_difference
from precis.files import atomic_path
from precis.params import PARAMS_FILE, Params, check_params
from precis.search.workbench import encode_corpus, make_folder, prepare_corpus, run_module, run_stage

RESULTS = Path("benchmarks/RESULTS.md")
WORK = Path(".work/quality")
MODELS = ("pointer", "attention", "encoder_decoder")
HEADING = "## Quality"
STAGES = ("vocabulary", "encode", "train", "evaluate")  # what runs here, by its names in dvc.yaml
FIRST_WORDS = (4, 6, 8, 10, 12, 14, 16, 20, 25, 30, 40, 50)  # of a document, as its summary
FIRST_WORDS_DOCUMENTS = 300  # validation documents that choose among them
STATISTICS = ("oov_recall", "novel_2grams", "repetition", "unsupported_rate", "mean_length")
TITLES = ("OOV recall", "novel pairs", "repeated", "unsupported", "words")


@dataclass
class System:
    """Scores of a system by document, in points, (N, ROUGE types), and what else is told of it."""

    name: str
    scores: np.ndarray
    statistics: dict[str, float]
    parameters: int | None = None
    updates: float | None = None
    minutes: float | None = None
    decoding: str = ""
    seeds: np.ndarray | None = None
    """Mean scores of each seed, (seeds, ROUGE types)."""


class Benchmark:
    """One corpus with one set of parameters."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.corpus: Path = arguments.corpus.resolve()
        if not self.corpus.exists():
            raise PrecisError(f"{arguments.corpus} not found: give the folder of a corpus")
        self.on_validation: bool = arguments.on_validation
        self.sweep_documents: int = arguments.sweep_documents
        self.training_rows: int | None = arguments.training_rows
        self.values = load_yaml(PARAMS_FILE)
        if arguments.recipe:
            merge(self.values, recipe_changes(load_yaml(recipe_file(arguments.recipe)), str(self.corpus)))
        elif arguments.init:
            self.values = _proposed_by_init(self.values, self.corpus)
        else:
            merge(self.values, {"corpus": {"source": "files", "files": {"path": str(self.corpus)}}})
        self.changes = merge(self.values, _nested(arguments.set))
        budget = {"train": {"max_minutes": float(arguments.budget)}, "tracking": {"experiment": "quality"}}
        merge(self.values, budget)
        self.params: Params = check_params(plain(self.values), "params.yaml with the recipe and --set")
        tried = json.dumps([plain(self.values), code_digest(), self.training_rows], sort_keys=True)
        digest = hashlib.sha256(tried.encode()).hexdigest()[:8]
        self.folder: Path = arguments.work / f"{self.corpus.name}-{digest}"
        self.log = self.folder / "log.txt"
        self.split = "validation" if self.on_validation else "test"
        self.convention = convention_of(self.params.evaluation)

    def prepare(self) -> None:
        """The data stages; quick, so always done anew: what they make is never older than their code."""
        self.prepared = prepare_corpus(self.folder, self.values, self.log)
        if self.training_rows:
            keep_rows(self.prepared / "train.parquet", self.training_rows)
        self.encoded = encode_corpus(self.folder / "encoded", self.values, self.prepared, self.log)
        make_folder(self.folder, self.values, encoded=self.encoded)

    @property
    def rows(self) -> Path:
        return self.prepared / f"{self.split}.parquet"

    def ids(self) -> list[str]:
        """Of the rows scored, in their order."""
        return [row["id"] for window in read_rows(self.rows, 1024) for row in window]

    def clean_ids(self) -> set[str]:
        """Of the test rows whose document is in no other split: the corpus's own list, or ours."""
        own = self.corpus / "test_clean_ids.txt"
        path = own if own.is_file() else self.prepared / "clean_test_ids.txt"
        return set(path.read_text(encoding="utf-8").split("\n")) - {""}

    def missing(self) -> int:
        """Test rows that `prepare` set aside."""
        return count_rows(self.folder / "data" / "raw" / "test.parquet") - count_rows(self.rows)

    def model(self, name: str, seeds: Sequence[int]) -> System:
        """Train, choose decoding and score, for each seed; a document's score is the mean."""
        runs = [self._scored(self._trained(name, seed), name) for seed in seeds]
        notes = [json.loads((run / NOTE).read_text()) for run in runs]
        metrics = [json.loads((run / self.split / "metrics.json").read_text()) for run in runs]
        scores = np.stack([_document_scores(run / self.split) for run in runs])
        return System(
            name,
            scores.mean(0),
            {key: float(np.mean([one[key] for one in metrics])) for key in STATISTICS},
            parameters=notes[0]["parameters"],
            updates=float(np.mean([note["updates"] for note in notes])),
            minutes=float(np.mean([note["minutes"] for note in notes])),
            decoding=", ".join(dict.fromkeys(_in_words(note["decoding"]) for note in notes)),
            seeds=scores.mean(1),
        )

    def _trained(self, name: str, seed: int) -> Path:
        """The folder of a trained model whose decoding is chosen."""
        run = self.folder / f"{name}-{seed}"
        if (run / NOTE).is_file():
            print(f"{name}, seed {seed}: is trained already, in {run}", flush=True)
            return run
        merge(self.values, {"train": {"seed": seed}})
        make_folder(run, self.values, prepared=self.prepared, encoded=self.encoded)
        print(f"{name}, seed {seed}: training; see {self.log}", flush=True)
        if not (run / "models" / name / "run.json").is_file():  # cut off while its decoding was chosen
            run_stage("train", run, self.log, "--model", name)
        choose = ["sweep", "--model", name, "--documents", str(self.sweep_documents)]
        run_module("precis.cli", run, self.log, choose)
        decoding = json.loads((run / "reports" / "sweep" / "best.json").read_text())
        note = {**_training(run / "models" / name), "decoding": decoding}
        with atomic_path(run / NOTE) as path:
            path.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
        return run

    def _scored(self, run: Path, name: str) -> Path:
        """The same folder, with the scores of the split."""
        from precis.stages.evaluate import evaluate
        from precis.training.tracking import log_evaluation

        scores = run / self.split
        if (scores / "metrics.json").is_file():
            print(f"{name}: has its scores already, in {scores}", flush=True)
            return run
        decoding = json.loads((run / NOTE).read_text())["decoding"]
        model = run / "models" / name
        metrics = evaluate(
            model,
            self.rows,
            scores,
            decoding=self.params.decoding.model_dump(mode="json") | decoding,
            settings=self.params.evaluation,
        )
        if not self.on_validation:
            log_evaluation(model, metrics, scores)
        print(f"{run.name}: ROUGE {_three(metrics)} on {self.split}", flush=True)
        return run

    def baselines(self) -> list[System]:
        """What needs no model: the stage of that name, and the first words of a document."""
        make_folder(self.folder, self.values, encoded=self.encoded)
        run_stage("baselines", self.folder, self.log)
        found = []
        for directory in sorted((self.folder / "reports" / "baselines").iterdir()):
            metrics = json.loads((directory / "metrics.json").read_text())
            found.append(System(directory.name.replace("_", "-"), _document_scores(directory), metrics))
        return [*found, self._first_words()]

    def _first_words(self) -> System:
        validation = next(read_rows(self.prepared / "validation.parquet", FIRST_WORDS_DOCUMENTS))
        with parallel_rouge(self.convention, 1) as rouge:
            number = max(
                FIRST_WORDS,
                key=lambda words: (
                    rouge.score((references(row), _first(row["document"], words)) for row in validation)
                    .of("rouge1")
                    .mean()
                ),
            )
            rows = [row for window in read_rows(self.rows, 1024) for row in window]
            scores = rouge.score((references(row), _first(row["document"], number)) for row in rows)
        return System(f"first-{number}-words", 100 * scores.values, {"mean_length": number})


def code_digest() -> str:
    """Of the code that the models and their scores depend on, as dvc.yaml lists it."""
    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    deps = {dep for stage in STAGES for dep in stages[stage]["deps"] if dep.startswith("src/")}
    digest = hashlib.sha256()
    for path in sorted(
        file for dep in deps for file in ([Path(dep)] if dep.endswith(".py") else Path(dep).rglob("*.py"))
    ):
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def keep_rows(path: Path, number: int) -> None:
    """Keep some rows of a Parquet file, in their order: those whose ids have the smallest hashes, so that fewer rows
    are always among more."""
    table = pq.read_table(path)
    digests = [hashlib.sha256(row_id.encode()).digest() for row_id in table["id"].to_pylist()]
    kept = sorted(sorted(range(len(digests)), key=digests.__getitem__)[:number])
    with atomic_path(path) as temporary:
        pq.write_table(table.take(kept), temporary)


def _proposed_by_init(values: Any, corpus: Path) -> Any:
    """params.yaml as the command leaves it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_yaml(values, folder / PARAMS_FILE.name)
        run_module("precis.cli", folder, folder / "log.txt", ["init", str(corpus)])
        return load_yaml(folder / PARAMS_FILE.name)


def _first(document: str, number: int) -> str:
    return " ".join(document.split()[:number])


def _document_scores(folder: Path) -> np.ndarray:
    with (folder / "summaries.jsonl").open(encoding="utf-8") as lines:
        rouge = [json.loads(line)["rouge"] for line in lines]
    return np.array([[row[kind] for kind in ROUGE_TYPES] for row in rouge])


def _training(model: Path) -> dict[str, float]:
    """What the training's MLflow run says of it."""
    from precis.training.tracking import configure, run_of

    run_id = run_of(model)
    metrics = configure().get_run(run_id).data.metrics if run_id else {}
    from safetensors import safe_open

    with safe_open(model / "model.safetensors", framework="np") as file:
        parameters = sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
    return {"parameters": parameters, "updates": metrics["updates"], "minutes": metrics["minutes"]}


def _in_words(decoding: dict[str, Any]) -> str:
    said = f"beam {decoding['beam_size']}"
    for kind, weight in (("length", "length_alpha"), ("coverage", "coverage_beta")):
        if decoding[f"{kind}_penalty"] != "none":
            said += f", {kind} {decoding[f'{kind}_penalty']} {decoding[weight]:g}"
    return said


def _three(metrics: dict[str, float]) -> str:
    return "/".join(f"{metrics[kind]:.2f}" for kind in ROUGE_TYPES[:3])


def _nested(settings: Sequence[str]) -> dict[str, Any]:
    """`train.batch_size=32` as nested parameters."""
    nested: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise PrecisError(f"--set {setting}: expected KEY=VALUE, such as train.batch_size=32")
        try:
            value = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise PrecisError(f"--set {setting}: the value is not valid YAML") from error
        *sections, key = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return nested


def table(systems: Sequence[System], rows: np.ndarray, evaluation: Any) -> list[str]:
    """The rows of a Markdown table, for the documents chosen by `rows`."""
    lines = [
        "| system | ROUGE-1 | ROUGE-2 | ROUGE-L | "
        + " | ".join(TITLES)
        + " | parameters | updates | minutes | decoding |",
        "| --- |" + " ---: |" * (6 + len(TITLES)) + " --- |",
    ]
    for system in systems:
        intervals = bootstrap(
            system.scores[rows],
            resamples=evaluation.resamples,
            confidence=evaluation.confidence,
            seed=evaluation.seed,
        )
        cells = [f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in intervals[:3]]
        for name in STATISTICS:
            value = system.statistics.get(name)
            percent = name != "mean_length"
            cells.append("" if value is None else f"{100 * value:.1f} %" if percent else f"{value:.1f}")
        cells += [
            "" if system.parameters is None else f"{system.parameters:,}",
            "" if system.updates is None else f"{system.updates:,.0f}",
            "" if system.minutes is None else f"{system.minutes:.1f}",
            system.decoding,
        ]
        lines.append(f"| {system.name} | {' | '.join(cells)} |")
    return lines


def differences(systems: Sequence[System], evaluation: Any) -> list[str]:
    """The gain of each system over the next one, by paired bootstrap."""
    lines = []
    for better, worse in itertools.pairwise(systems):
        said = []
        for number, title in enumerate(("ROUGE-1", "ROUGE-2", "ROUGE-L")):
            gain = paired_difference(
                worse.scores[:, number],
                better.scores[:, number],
                resamples=evaluation.resamples,
                confidence=evaluation.confidence,
                seed=evaluation.seed,
            )
            said.append(f"{title} {gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]")
        lines.append(f"- {better.name} over {worse.name}: {', '.join(said)}")
    return lines


def spread(model: System, seeds: Sequence[int]) -> str:
    """What each seed reached, their mean and standard deviation."""
    assert model.seeds is not None
    told = [
        f"{seed}: {'/'.join(f'{score:.2f}' for score in scores[:3])}"
        for seed, scores in zip(seeds, model.seeds, strict=True)
    ]
    mean, deviation = model.seeds.mean(0), model.seeds.std(0, ddof=1)
    overall = [f"{one:.2f} ± {other:.2f}" for one, other in zip(mean[:3], deviation[:3], strict=True)]
    return f"- {model.name}: {', '.join(told)}; mean and standard deviation {', '.join(overall)}"


def append(results: Path, block: str) -> None:
    """Put a block at the end of the section about quality, which is made if it is not there."""
    text = results.read_text(encoding="utf-8") if results.is_file() else "# Results of the benchmarks\n"
    before, heading, section = text.partition(f"\n{HEADING}\n")
    if not heading:
        text = f"{text.rstrip()}\n\n{HEADING}\n\n{block}"
    else:
        own, following, rest = section.partition("\n## ")
        text = f"{before}{heading}{own.rstrip()}\n\n{block}{following}{rest}"
    with atomic_path(results) as path:
        path.write_text(text, encoding="utf-8")


def log_run(
    benchmark: Benchmark, systems: Sequence[System], block: str, arguments: argparse.Namespace
) -> None:
    """The benchmark as a run of its own beside those of its trainings."""
    from mlflow.entities import Metric, Param

    from precis.training.tracking import configure, experiment_id, git_tags

    client = configure()
    run = client.create_run(
        experiment_id(client, "quality"), run_name=f"quality {benchmark.corpus.name}", tags=git_tags()
    )
    recipe = "init" if arguments.init else arguments.recipe or ""
    settings = {"corpus": benchmark.corpus.name, "recipe": recipe, "split": benchmark.split}
    settings |= {"budget": arguments.budget, "seeds": arguments.seeds, "set": " ".join(arguments.set)}
    metrics = [
        Metric(f"{system.name}.{kind}", float(score), 0, 0)
        for system in systems
        for kind, score in zip(ROUGE_TYPES, system.scores.mean(0), strict=True)
    ]
    params = [Param(name, str(value)[:6000]) for name, value in settings.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    client.log_text(run.info.run_id, block, "results.md")
    client.log_dict(run.info.run_id, plain(benchmark.values), "params.yaml")
    client.set_terminated(run.info.run_id)


def block_of(benchmark: Benchmark, systems: Sequence[System], arguments: argparse.Namespace) -> str:
    """What goes into the results: the command, the tables, the differences, the convention."""
    from precis.training.tracking import git_tags

    evaluation = benchmark.params.evaluation
    ids = benchmark.ids()
    models = [system for system in systems if system.parameters is not None]
    commit = git_tags().get("mlflow.source.git.commit", "unknown")[:7]
    words = ["python", "benchmarks/quality.py", f"PATH/{benchmark.corpus.name}"]
    words += ["--recipe", arguments.recipe] if arguments.recipe else []
    words += ["--init"] if arguments.init else []
    words += ["--budget", f"{arguments.budget:g}", "--seeds", *map(str, arguments.seeds)]
    words += ["--models", *arguments.models]
    words += ["--training-rows", str(arguments.training_rows)] if arguments.training_rows else []
    words += ["--sweep-documents", str(arguments.sweep_documents)] if arguments.sweep_documents != 500 else []
    words += ["--set", *arguments.set] if arguments.set else []
    lines = [f"### {benchmark.corpus.name}, {date.today().isoformat()}, commit {commit}", ""]
    lines += ["```", shlex.join(words), "```", ""]
    trained_on = f"{count_rows(benchmark.prepared / 'train.parquet'):,} rows"
    told = f"All {len(ids):,} {benchmark.split} rows, trained on {trained_on}, `{benchmark.convention.signature}`"
    if not benchmark.on_validation and benchmark.missing():
        told += f"; {benchmark.missing():,} more test rows were set aside by `prepare`"
    lines += [f"{told}:", "", *table(systems, np.ones(len(ids), dtype=bool), evaluation)]
    if not benchmark.on_validation:
        clean = benchmark.clean_ids()
        rows = np.array([row_id in clean for row_id in ids])
        if not rows.all():
            lines += ["", f"The {rows.sum():,} of them whose document is in no other split:", ""]
            lines += table([replace(one, statistics={}) for one in systems], rows, evaluation)
    if len(arguments.seeds) > 1:
        lines += ["", "Seeds:", "", *(spread(model, arguments.seeds) for model in models)]
    if len(models) > 1:
        lines += ["", "Paired bootstrap:", "", *differences(models, evaluation)]
    return "\n".join(lines) + "\n"


def compare_with(folder: Path, benchmark: Benchmark, systems: Sequence[System]) -> list[str]:
    """The gain over the same models in the folder of an earlier run."""
    lines = []
    for system in systems:
        runs = sorted(folder.glob(f"{system.name}-[0-9]*/validation"))
        if not runs:
            raise PrecisError(f"--against {folder}: it has no scores of {system.name}")
        scores = np.mean([_document_scores(run) for run in runs], axis=0)
        if len(scores) != len(system.scores):
            raise PrecisError(f"--against {folder}: it has {len(scores)} rows, this run {len(system.scores)}")
        before = System(f"{system.name} of {folder.name}", scores, {})
        lines += differences([system, before], benchmark.params.evaluation)
    return lines


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="a folder with train, validation and test files")
    settings = parser.add_mutually_exclusive_group()
    settings.add_argument("--recipe", help="a name of recipes/, or a file")
    settings.add_argument("--init", action="store_true", help="the parameters that `precis init` proposes")
    parser.add_argument("--budget", type=float, required=True, help="minutes of training of each model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--training-rows", type=int, help="train on so many, chosen by hash; else on all")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further parameters")
    parser.add_argument("--on-validation", action="store_true", help="do not read the test split")
    parser.add_argument("--against", type=Path, help="with --on-validation: the folder of an earlier run")
    parser.add_argument(
        "--sweep-documents", type=int, default=500, help="validation rows that choose decoding"
    )
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.budget <= 0:
        parser.error("--budget: expected minutes above 0")
    if arguments.training_rows is not None and arguments.training_rows < 1:
        parser.error("--training-rows: expected at least 1")
    if arguments.against and not arguments.on_validation:
        parser.error("--against compares on validation: add --on-validation")
    return arguments


def main() -> None:
    arguments = parse()
    from precis.training.tracking import default_tracking_uri

    os.environ.setdefault("MLFLOW_TRACKING_URI", default_tracking_uri())
    benchmark = Benchmark(arguments)
    print(f"working in {benchmark.folder}", flush=True)
    benchmark.prepare()
    order = [name for name in MODELS if name in arguments.models]
    systems = [benchmark.model(name, arguments.seeds) for name in order]
    models = list(systems)
    if not benchmark.on_validation:
        systems += benchmark.baselines()
    block = block_of(benchmark, systems, arguments)
    if arguments.against:
        block += "\n" + "\n".join(compare_with(arguments.against, benchmark, models)) + "\n"
    log_run(benchmark, systems, block, arguments)
    print("\n" + block)
    if not benchmark.on_validation:
        append(arguments.results, block)
        print(f"added to {arguments.results}")


if __name__ == "__main__":
    try:
        main()
    except PrecisError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
