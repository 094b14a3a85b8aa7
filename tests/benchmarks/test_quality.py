"""The quality benchmark as a process, on a corpus of made-up tickets."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import write_tickets
from rouge_score.rouge_scorer import RougeScorer
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SMALL = (
    "vocabulary.target_size=120", "model.embedding_size=16", "model.hidden_size=16", "model.decoder_size=32",
    "model.dropout=0.0", "train.max_epochs=2", "train.threads=1", "train.learning_rate=0.01",
    "train.warmup_updates=10", "evaluation.resamples=200", "evaluation.processes=1", "evaluation.threads=1",
)  # fmt: skip


class Benchmark:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.corpus = folder / "tickets"
        self.corpus.mkdir()
        for seed, (split, number) in enumerate({"train": 240, "validation": 30, "test": 40}.items()):
            write_tickets(self.corpus / f"{split}.jsonl", number, seed)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            *(sys.executable, "benchmarks/quality.py", str(self.corpus), "--budget", "5"),
            *("--work", str(self.folder / "work"), "--results", str(self.folder / "RESULTS.md")),
            *arguments,
        ]
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)

    @property
    def results(self) -> str:
        return (self.folder / "RESULTS.md").read_text()

    def scores(self, split: str) -> list[dict]:
        (file,) = (self.folder / "work").glob(f"tickets-*/pointer-1/{split}/summaries.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Benchmark:
    """A pointer model, trained and scored once."""
    one = Benchmark(tmp_path_factory.mktemp("quality"))
    (one.folder / "RESULTS.md").write_text("# Results\n\n## Quality\n\nbefore\n\n## Speed\n\nafter\n")
    done = one.run("--models", "pointer", "--set", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return one


def test_every_test_row_is_scored_and_told_as_rouge_score_has_it(benchmark):
    rows = [json.loads(line) for line in (benchmark.corpus / "test.jsonl").read_text().splitlines()]
    summaries = {row["id"]: row["summary"] for row in benchmark.scores("test")}
    assert list(summaries) == [row["id"] for row in rows]
    scorer = RougeScorer(["rouge1"], use_stemmer=True)
    mean = sum(scorer.score(row["summary"], summaries[row["id"]])["rouge1"].fmeasure for row in rows) / len(
        rows
    )
    told = re.search(r"^\| pointer \| ([\d.]+) \[", benchmark.results, re.MULTILINE)[1]
    assert float(told) == pytest.approx(100 * mean, abs=0.006)


def test_the_block_stands_in_its_section_with_baselines_and_convention(benchmark):
    before, block, after = re.split(r"before\n|(?=\n## Speed)", benchmark.results)
    assert "## Quality" in before and after == "\n## Speed\n\nafter\n"
    assert re.findall(r"^\| ([a-z0-9-]+) \|", block, re.MULTILINE)[:3] == ["system", "---", "pointer"]
    assert "| lead-1 |" in block and re.search(r"\| first-\d+-words \|", block)
    assert "rouge-score:" in block and "--budget 5 --seeds 1 --models pointer" in block


def test_settings_are_compared_on_validation_without_training_anew_or_touching_the_results(benchmark):
    before = benchmark.results
    (folder,) = (benchmark.folder / "work").glob("tickets-*")
    arguments = ("--models", "pointer", "--on-validation", "--set", *SMALL)
    done = benchmark.run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is trained already" in done.stdout
    done = benchmark.run("--against", str(folder), *arguments)
    assert f"pointer over pointer of {folder.name}: ROUGE-1 +0.00 [+0.00, +0.00]" in done.stdout
    validation = [json.loads(row)["id"] for row in (benchmark.corpus / "validation.jsonl").open()]
    assert [row["id"] for row in benchmark.scores("validation")] == validation
    assert benchmark.results == before


def tried_on(benchmark: Benchmark, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"benchmarks/{script}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def test_an_ensemble_of_a_model_and_itself_writes_what_the_model_writes(benchmark):
    (run,) = (benchmark.folder / "work").glob("tickets-*/pointer-1")
    done = tried_on(benchmark, "ensemble.py", str(run), str(run))
    assert done.returncode == 0, done.stderr
    alone, together = re.findall(rf"{re.escape(str(run))} \| ([\d.]+).*", done.stdout)
    assert alone == together and "+0.00 [+0.00, +0.00]" in done.stdout
    assert "30 validation rows" in done.stdout


def test_least_risk_is_chosen_among_what_the_search_finds(benchmark):
    (run,) = (benchmark.folder / "work").glob("tickets-*/pointer-1")
    done = tried_on(benchmark, "minimum_bayes_risk.py", str(run), "--beam", "4")
    assert done.returncode == 0, done.stderr
    means = {
        name: float(mean)
        for name, mean in re.findall(r"^\| ([a-z][^|]*) \| ([\d.]+)", done.stdout, re.MULTILINE)
    }
    assert len(means) == 7
    best = means["best, if one knew"]
    assert best > means["first"] and all(mean <= best for mean in means.values())


@pytest.mark.parametrize("script", ["ensemble.py", "minimum_bayes_risk.py"])
def test_what_is_no_run_is_told(benchmark, tmp_path, script):
    done = tried_on(benchmark, script, str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: {tmp_path}: no trained.json there; expected a run of benchmarks/quality.py" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "train.max_epoch=3"), "train.max_epoch: params.yaml has no such key"),
        (("--set", "train.max_epochs=none"), "train.max_epochs: Input should be a valid integer"),
        (("--set", "train.max_epochs"), "expected KEY=VALUE"),
        (("--recipe", "nothing"), "there is no recipe 'nothing'; there are: aeslc"),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_runs(benchmark, arguments, message):
    done = benchmark.run(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_seeds_are_told_apart_and_init_proposes_the_parameters_for_some_of_the_rows(tmp_path):
    one = Benchmark(tmp_path)
    arguments = ("--init", "--training-rows", "150", "--seeds", "1", "2", "--models", "pointer")
    done = one.run(*arguments, "--set", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained on 150 rows" in one.results and "--init" in one.results
    first, second, mean = (
        float(number)
        for number in re.search(
            r"- pointer: 1: ([\d.]+)/.*, 2: ([\d.]+)/.*deviation ([\d.]+) ±", one.results
        ).groups()
    )
    assert mean == pytest.approx((first + second) / 2, abs=0.011)
    told = re.search(r"^\| pointer \| ([\d.]+) \[", one.results, re.MULTILINE)[1]
    assert float(told) == pytest.approx(mean, abs=0.011)
    (folder,) = (tmp_path / "work").glob("tickets-*")
    written = YAML(typ="safe").load((folder / "params.yaml").read_text())
    assert written["corpus"]["files"]["path"] == str(one.corpus.resolve())
    longest = max(len(json.loads(row)["document"].split()) for row in (one.corpus / "train.jsonl").open())
    assert 20 <= written["encode"]["source_max_length"] <= max(30, 2 * longest)


def test_what_other_code_trained_is_not_taken_for_what_this_code_trains(tmp_path):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    command = "import sys; sys.path.insert(0, sys.argv[1]); import quality; print(quality.code_digest())"

    def digest() -> str:
        run = [sys.executable, "-c", command, str(ROOT / "benchmarks")]
        return subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    before = digest()
    (tmp_path / "src/precis/cli.py").write_text("nothing that a model depends on")
    assert digest() == before
    with (tmp_path / "src/precis/models/losses.py").open("a") as file:
        file.write("# changed\n")
    assert digest() != before
