import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_model import DECODING, DOCUMENTS, write_model

from precis.commands.sweep import refuse_test
from precis.errors import PrecisError
from precis.evaluation.rouge import RougeConvention, RougeScorer, parallel_rouge
from precis.serving.batch_decoder import BatchDecoder
from precis.serving.summarizer import Summarizer
from precis.serving.sweep import grid, sweep

CONVENTION = RougeConvention(tokenizer="unicode", stemmer=False, summary_level="newline", references="best")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    torch.set_num_threads(1)
    summarizer = Summarizer.load(write_model(tmp_path_factory.mktemp("model"), "pointer"))
    documents = [document + f" item {number}" for number, document in enumerate(DOCUMENTS * 3)]
    references = [[" ".join(document.split()[:6])] for document in documents]
    settings = grid([1, 3], has_attention=True)
    with parallel_rouge(CONVENTION, 1) as rouge:
        found = sweep(
            summarizer,
            documents,
            references,
            settings,
            rouge,
            decoding=DECODING,
            batch_size=5,
            progress=lambda _: None,
        )
    return summarizer, documents, references, found


def test_two_hundred_settings_take_a_tenth_of_the_steps(swept):
    found = swept[3]
    assert len(found.scored) >= 200
    assert found.num_steps <= found.num_steps_one_by_one / 10


def test_each_score_is_that_of_decoding_with_the_setting(swept):
    summarizer, documents, references, found = swept
    scorer = RougeScorer(CONVENTION)
    for one in found.scored[:: len(found.scored) // 12]:
        summaries = summarizer.summarize(documents, batch_size=5, **{**DECODING, **one.setting.decoding})
        scores = [
            scorer.score(reference, summary.text)
            for reference, summary in zip(references, summaries, strict=True)
        ]
        expected = 100 * np.mean(scores, axis=0)
        assert (one.rouge1, one.rouge2, one.rougeL) == pytest.approx(tuple(expected[:3]), abs=1e-9)


def test_the_best_setting_has_the_highest_score(swept):
    found = swept[3]
    highest = max(one.rouge1 + one.rouge2 for one in found.scored)
    assert found.best.rouge1 + found.best.rouge2 == highest


def test_it_takes_a_tenth_of_the_steps_of_decoding_with_each_setting_as_users_do(swept, monkeypatch):
    summarizer, documents, references, _ = swept
    counted = []
    step = BatchDecoder.step

    def counting(self, memory, state, previous_ids):
        counted.append(previous_ids.numel())
        return step(self, memory, state, previous_ids)

    monkeypatch.setattr(BatchDecoder, "step", counting)
    settings = grid([1, 2, 3], has_attention=True)[::3]
    how = {"decoding": DECODING, "batch_size": 5, "progress": lambda _: None}
    with parallel_rouge(CONVENTION, 1) as rouge:
        found = sweep(summarizer, documents, references, settings, rouge, **how)
    taken = sum(counted)
    assert taken <= found.num_steps  # what it tells is no less than what it took
    counted.clear()
    for setting in settings:  # these stop as soon as nothing can win
        summarizer.summarize(documents, batch_size=5, **{**DECODING, **setting.decoding})
    assert 10 * taken <= sum(counted)


def write(path: Path, documents: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "id": [f"{path.stem}-{number}" for number in range(len(documents))],
        "document": documents,
        "summary": [" ".join(document.split()[:5]) for document in documents],
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    write(tmp_path / "data/prepared/test.parquet", [f"{text} of test" for text in DOCUMENTS])
    write(tmp_path / "data/prepared/validation.parquet", DOCUMENTS)
    return tmp_path


def test_documents_of_the_test_split_are_refused_under_any_name(project):
    validation, test = (project / f"data/prepared/{name}.parquet" for name in ("validation", "test"))
    refuse_test(validation)
    (project / "latest.parquet").write_bytes(validation.read_bytes())
    refuse_test(project / "latest.parquet")
    (project / "innocent.parquet").write_bytes(test.read_bytes())
    write(project / "subset.parquet", [*DOCUMENTS, f"{DOCUMENTS[2]} of test"])
    write(project / "my_test.parquet", ["entirely other text"])
    for name in ("data/prepared/test.parquet", "my_test.parquet"):
        with pytest.raises(PrecisError, match=r"is the test split.*--split data/prepared/validation.parquet"):
            refuse_test(project / name)
    with pytest.raises(PrecisError, match="has 5 documents of the test split"):
        refuse_test(project / "innocent.parquet")
    with pytest.raises(PrecisError, match="has 1 documents of the test split"):
        refuse_test(project / "subset.parquet")
    with pytest.raises(PrecisError, match="not found"):
        refuse_test(project / "no.parquet")


def test_the_command_writes_table_and_plot_and_logs_them(project, capsys):
    from precis.commands.sweep import sweep as command
    from precis.training.tracking import configure

    params = (Path(__file__).parents[2] / "params.yaml").read_text()
    (project / "params.yaml").write_text(params)
    directory = write_model(project / "models" / "pointer", "pointer")
    client = configure()
    experiment = client.create_experiment("e", artifact_location=str(project / "mlartifacts"))
    run_id = client.create_run(experiment, tags={"precis.fingerprint": "abc"}).info.run_id
    (directory / "run.json").write_text(json.dumps({"fingerprint": "abc"}))
    output = project / "reports" / "sweep"
    split = project / "data/prepared/validation.parquet"
    command("pointer", documents=4, beams="1,2", split=split, output=output, log=True, as_json=False)
    told = capsys.readouterr().out
    assert "216 settings, rouge-score:" in told and "of a full search" in told
    table = (output / "sweep.md").read_text()
    rows = [line for line in table.splitlines() if re.match(r"\| [12] \|", line)]
    assert len(rows) == 216 and "4 validation documents" in table and "|tok:unicode" in table
    rouge1 = [float(row.split("|")[4]) + float(row.split("|")[5]) for row in rows]
    assert rouge1 == sorted(rouge1, reverse=True)
    svg = (output / "sweep.svg").read_text()
    assert "milliseconds for one document alone" in svg and "ROUGE-1" in svg
    best = json.loads((output / "best.json").read_text())
    assert set(best) <= set(DECODING)
    assert {file.path for file in client.list_artifacts(run_id, "sweep")} == {
        f"sweep/{name}" for name in ("sweep.md", "sweep.svg", "best.json")
    }
    logged = client.get_run(run_id).data.metrics["sweep_rouge1"]
    assert rows[0].split("|")[4].strip() == f"{logged:.2f}"


@pytest.mark.parametrize(("beams", "message"), [("1,x", "expected numbers"), ("0,2", "at least 1")])
def test_beam_sizes_that_are_none_are_told(project, beams, message):
    from precis.commands.sweep import _sizes

    with pytest.raises(PrecisError, match=message):
        _sizes(beams)
