import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import html5lib
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from precis.errors import PrecisError
from precis.params import EvaluationParams
from precis.stages.baselines import score_baselines
from precis.stages.evaluate import evaluate
from precis.stages.report import report

SETTINGS = EvaluationParams(
    seed=1,
    threads=1,
    processes=1,
    batch_size=4,
    stemmer=True,
    summary_level="newline",
    references="best",
    tokenizer="unicode",
    resamples=200,
    confidence=0.95,
    length_buckets=[10, 20],
    baseline_sentences=1,
)


def tiny_model():
    path = Path(__file__).parents[1] / "serving" / "tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TINY = tiny_model()


def write_rows(path: Path, number: int) -> Path:
    documents = [f"{TINY.DOCUMENTS[i % 4]} Number n{i} is here." for i in range(number)]
    summaries = [f"The quick n{i}" for i in range(number)]
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"id": [f"d{i}" for i in range(number)], "document": documents, "summary": summaries}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    root = tmp_path_factory.mktemp("pipeline")
    test = write_rows(root / "test.parquet", 70)  # more than one window of 16 batches of 4
    for name in ("encoder_decoder", "attention", "pointer"):
        directory = TINY.write_model(root / "models" / name, name)
        evaluate(directory, test, root / "reports" / name, decoding=TINY.DECODING, settings=SETTINGS)
    vocabulary = root / "models" / "pointer" / "shared.txt"
    score_baselines(test, vocabulary, root / "reports" / "baselines", lowercase=True, settings=SETTINGS)
    return root


def metrics(root: Path, name: str) -> dict:
    return json.loads((root / "reports" / name / "metrics.json").read_text())


def lines(root: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (root / "reports" / name / "summaries.jsonl").open(encoding="utf-8")]


def test_the_number_of_processes_changes_no_byte(evaluated, tmp_path, monkeypatch):
    monkeypatch.setattr("precis.stages.evaluate.FEWEST_FOR_PROCESSES", 0)
    directory = evaluated / "models" / "pointer"
    settings = SETTINGS.model_copy(update={"processes": 2})
    evaluate(
        directory, evaluated / "test.parquet", tmp_path / "pointer", decoding=TINY.DECODING, settings=settings
    )
    for name in ("summaries.jsonl", "metrics.json"):
        assert (tmp_path / "pointer" / name).read_bytes() == (
            evaluated / "reports" / "pointer" / name
        ).read_bytes()


def test_every_document_is_there_in_its_order(evaluated):
    for name in ("encoder_decoder", "attention", "pointer", "baselines/lead_1", "baselines/oracle_1"):
        rows = lines(evaluated, name)
        assert [row["id"] for row in rows] == [f"d{i}" for i in range(70)]
        mean = sum(row["rouge"]["rouge1"] for row in rows) / 70
        assert metrics(evaluated, name)["rouge1"] == pytest.approx(mean, abs=1e-5)
        assert metrics(evaluated, name)["num_documents"] == 70


def test_models_without_a_pointer_recall_no_unknown_word(evaluated):
    # every reference has a word n17, n18, ... that no vocabulary has
    assert metrics(evaluated, "pointer")["oov_references"] >= 70
    assert metrics(evaluated, "encoder_decoder")["oov_recall"] == 0
    assert metrics(evaluated, "attention")["oov_recall"] == 0
    assert metrics(evaluated, "pointer")["copy_rate"] > 0


def test_copied_tokens_are_where_the_file_says(evaluated):
    documents = pq.read_table(evaluated / "test.parquet").column("document").to_pylist()
    copied = 0
    for row, document in zip(lines(evaluated, "pointer"), documents, strict=True):
        for token in row["tokens"]:
            assert row["summary"][token["start"] : token["end"]] == token["text"]
            assert token["generated"] + token["copied"] == pytest.approx(token["probability"], abs=1e-5)
            if "source" in token:
                copied += 1
                start, end = token["source"]
                assert document[start:end] == token["text"]
    assert copied > 20


def test_the_same_inputs_give_the_same_bytes(evaluated, tmp_path):
    model, test = evaluated / "models" / "pointer", evaluated / "test.parquet"
    evaluate(model, test, tmp_path / "pointer", decoding=TINY.DECODING, settings=SETTINGS)
    for path in sorted((tmp_path / "pointer").rglob("*")):
        if path.is_file():
            before = evaluated / "reports" / "pointer" / path.relative_to(tmp_path / "pointer")
            assert path.read_bytes() == before.read_bytes(), path.name


def test_the_report_reads_what_the_evaluations_wrote(evaluated):
    reports = evaluated / "reports"
    how = {"resamples": 200, "confidence": 0.95, "seed": 1}
    report(reports, evaluated / "test.parquet", **how)
    first = (reports / "index.html").read_bytes(), (reports / "comparison.md").read_bytes()
    table = first[1].decode()
    for system in ("lead-1", "oracle-1", "encoder_decoder", "attention", "pointer"):
        assert f"| {system} |" in table
    report(reports, evaluated / "test.parquet", **how)
    assert first == ((reports / "index.html").read_bytes(), (reports / "comparison.md").read_bytes())


def test_the_totals_on_the_page_are_those_of_mlflow(evaluated, tmp_path, monkeypatch):
    from precis.training.tracking import configure, log_evaluation

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = configure(tmp_path)
    experiment = client.create_experiment("e", artifact_location=str(tmp_path / "mlartifacts"))
    logged = {}
    for name in ("encoder_decoder", "attention", "pointer"):
        run = client.create_run(experiment, tags={"precis.fingerprint": name}).info.run_id
        model = tmp_path / "models" / name
        model.mkdir(parents=True)
        (model / "run.json").write_text(json.dumps({"fingerprint": name}))
        log_evaluation(model, metrics(evaluated, name), evaluated / "reports" / name)
        data = client.get_run(run).data
        logged[name] = data.metrics
        assert data.tags["precis.rouge"].startswith("rouge-score:")
        mean = sum(row["rouge"]["rouge2"] for row in lines(evaluated, name)) / 70
        assert logged[name]["test_rouge2"] == pytest.approx(mean, abs=1e-5)
    report(evaluated / "reports", evaluated / "test.parquet", resamples=200, confidence=0.95, seed=1)
    page = html5lib.parse((evaluated / "reports" / "index.html").read_text(), namespaceHTMLElements=False)
    results, *_, inside = [
        {row[0].text: ["".join(cell.itertext()) for cell in row[1:]] for row in table.iter("tr")}
        for table in page.iter("table")
    ][:3]
    for name, values in logged.items():
        of_name = results[name]
        for cell, metric in zip(of_name, ("rouge1", "rouge2", "rougeL", "rougeLsum"), strict=False):
            mean, low, high = (f"{values[f'test_{metric}{part}']:.2f}" for part in ("", "_low", "_high"))
            assert cell == f"{mean}{low} – {high}"
        column = inside["statistic"].index(name)
        for title, metric in (
            ("OOV recall", "oov_recall"),
            ("novel 1-grams", "novel_1grams"),
            ("unsupported", "unsupported_rate"),
            ("whole sentences", "copied_sentences"),
            ("most frequent", "most_common_summary"),
        ):
            assert inside[title][column] == f"{100 * values[f'test_{metric}']:.1f} %"
    assert (
        inside["p_gen"][inside["statistic"].index("pointer")] == f"{logged['pointer']['test_p_gen_mean']:.2f}"
    )


def test_a_missing_or_empty_test_split_is_told(evaluated, tmp_path):
    model = evaluated / "models" / "pointer"
    with pytest.raises(PrecisError, match="not found: run `dvc repro prepare` first"):
        evaluate(model, tmp_path / "no.parquet", tmp_path, decoding=TINY.DECODING, settings=SETTINGS)
    empty = write_rows(tmp_path / "empty.parquet", 0)
    with pytest.raises(PrecisError, match="has no rows"):
        evaluate(model, empty, tmp_path, decoding=TINY.DECODING, settings=SETTINGS)


def peak_memory(root: Path, number: int) -> float:
    """MB that evaluating so many documents takes at its peak, in a process of its own."""
    test = write_rows(root / f"{number}.parquet", number)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import resource, test_evaluate as t\nfrom pathlib import Path\n"
        f"t.evaluate(Path({str(root / 'models' / 'pointer')!r}), Path({str(test)!r}), "
        f"Path({str(root / str(number))!r}), decoding=t.TINY.DECODING, settings=t.SETTINGS)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_memory_is_bounded_by_the_window_and_not_by_the_corpus(evaluated):
    few, many = peak_memory(evaluated, 200), peak_memory(evaluated, 6000)
    # four numbers, a length and a digest of each document may stay: well under 1 KB
    assert many - few < 20
