"""Recipes and `precis init` change params.yaml, and keep what people wrote into it."""

import csv
import json
import re
import shutil
from pathlib import Path

import hostile
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from precis.commands.init import init, time_explained
from precis.commands.recipe import recipe
from precis.corpora.overrides import load_yaml, merge, save_yaml
from precis.corpora.proposal import guess_columns, propose
from precis.errors import PrecisError
from precis.params import load_params
from precis.stages import download, prepare

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command, *arguments):
    import typer

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments), catch_exceptions=True)


def comments(text: str) -> list[str]:
    return [line.partition("# ")[2] for line in text.splitlines() if "# " in line]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_fits_params_and_keeps_comments(project, name):
    before = (project / "params.yaml").read_text()
    result = run(recipe, name)
    assert result.exit_code == 0, result.output
    after = (project / "params.yaml").read_text()
    load_params()
    assert comments(after) == comments(before)
    assert "dvc repro" in result.output
    assert run(recipe, name).output.startswith("params.yaml has these values already")


def test_recipes_are_listed(project):
    output = run(recipe, "list").output
    assert all(
        name in output
        for name in ("aeslc", "cnn_dailymail", "dialogsum", "gigaword", "samsum", "scitldr", "xsum")
    )


def test_local_files_take_the_place_of_the_hub(project):
    (project / "talks").mkdir()
    assert run(recipe, "dialogsum", "--path", "talks").exit_code == 0
    corpus = load_params().corpus
    assert (corpus.source, corpus.files.path, corpus.columns.references) == ("files", "talks", "references")


def test_a_file_is_a_recipe_too(project):
    Path("mine.yaml").write_text("train: {batch_size: 7}\n")
    assert run(recipe, "mine.yaml").output.startswith("train.batch_size: ")
    assert load_params().train.batch_size == 7
    Path("mine.yaml").write_text("- 7\n")
    assert "mine.yaml is no recipe: expected sections" in str(run(recipe, "mine.yaml").exception)
    assert "recipe theirs.yaml not found" in str(run(recipe, "theirs.yaml").exception)


def test_unknown_recipes_and_paths_are_named(project):
    assert "there is no recipe 'nope'" in str(run(recipe, "nope").exception)
    assert "absent not found" in str(run(recipe, "aeslc", "--path", "absent").exception)


def test_a_change_for_an_unknown_key_is_refused():
    with pytest.raises(PrecisError, match=r"corpus\.sauce: params\.yaml has no such key"):
        merge({"corpus": {"source": "files"}}, {"corpus": {"sauce": "hub"}})


def test_yaml_comes_back_as_it_was(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    save_yaml(load_yaml(tmp_path / "params.yaml"), tmp_path / "again.yaml")
    assert (tmp_path / "again.yaml").read_text() == (ROOT / "params.yaml").read_text()


def test_init_proposes_and_writes_what_works(project):
    with (project / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Ticket_ID", "Subject", "Mail", "Customer"])
        writer.writerows([n, hostile.summary(n), hostile.text(n), n % 20] for n in range(300))
        writer.writerow([300, "", hostile.text(300), 3])
    result = run(init, "mine.csv")
    assert result.exit_code == 0, result.exception
    assert "missing_field" in result.output and "mine.csv: looked at 301 rows" in result.output
    params = load_params()
    columns = params.corpus.columns
    assert (columns.id, columns.document, columns.summary, columns.group) == (
        "Ticket_ID",
        "Mail",
        "Subject",
        "Customer",
    )
    assert (params.corpus.source, params.corpus.files.path) == ("files", "mine.csv")
    # 40 words a document; five a summary and its end
    assert (params.encode.source_max_length, params.encode.target_max_length) == (40, 6)


def test_init_plans_no_more_epochs_than_there_is_time_for(project):
    write_splits(project / "small", shared=0)
    result = run(init, "small")
    assert "Training: 200 rows, 6 epochs; a minute or less for each model" in result.output
    before = load_params().train.max_epochs
    assert before == 6
    (project / "many.yaml").write_text("train: {max_epochs: 1000000}\n")
    assert run(recipe, "many.yaml").exit_code == 0
    result = run(init, "small")
    assert "about 60 minutes for each model" in result.output
    assert before < load_params().train.max_epochs < 1_000_000


def test_a_corpus_too_large_for_a_single_epoch_is_told_how_many_rows_are_not():
    rows = [{"document": hostile.text(n), "summary": hostile.summary(n)} for n in range(20)]
    proposal = propose(rows)
    assert 30 < proposal.words_per_row < 60
    assert proposal.epochs(10_000, most=6) == 6
    assert 1 < proposal.epochs(500_000, most=6) < 6
    assert proposal.epochs(50_000_000, most=6) == 1
    told = time_explained(proposal, 50_000_000, 1, all_rows=60_000_000)
    number = int(re.search(r"corpus\.max_rows: ([\d,]+) ", told)[1].replace(",", ""))
    # five of six rows are of training
    assert proposal.minutes(number * 5 // 6, 1) == pytest.approx(60, rel=0.01)


def write_splits(folder: Path, shared: int) -> None:
    """200 training rows, 40 validation and 40 test rows, the first `shared` of which are training rows, too."""
    folder.mkdir()
    for split, first, number in (("train", 0, 200), ("validation", 1000, 40), ("test", 2000, 40)):
        numbers = [*range(shared if split == "test" else 0), *range(first, first + number)][:number]
        rows = [
            {"id": f"{split}-{n}", "document": hostile.text(n), "summary": hostile.summary(n)}
            for n in numbers
        ]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_init_lets_splits_that_overlap_through_with_the_copies_set_aside(project):
    write_splits(project / "leaky", shared=8)  # a fifth; params.yaml allows a twentieth
    result = run(init, "leaky")
    assert result.exit_code == 0, result.exception
    assert (
        "The given splits overlap: 8 of the 40 documents of test (20.0%) are in train, too" in result.output
    )
    assert "prepare.checks.leakage.max_share: 0.05 -> " in result.output
    download.main()
    prepare.main()
    rows = {split: pq.read_table(f"data/prepared/{split}.parquet") for split in ("train", "test")}
    assert (rows["train"].num_rows, rows["test"].num_rows) == (192, 40)
    documents = {split: set(table["document"].to_pylist()) for split, table in rows.items()}
    assert not documents["train"] & documents["test"]


def test_init_names_groups_where_it_is_precis_that_splits(project):
    threads = [n if n < 180 else 180 + (n - 180) // 2 for n in range(300)]  # the last 60 of two mails
    rows = [
        {"document": f"{hostile.text(thread)} number {n}", "summary": hostile.summary(n), "thread": thread}
        for n, thread in enumerate(threads)
    ]
    for name, columns in {
        "alone": ("document", "summary"),
        "grouped": ("document", "summary", "thread"),
    }.items():
        lines = [json.dumps({column: row[column] for column in columns}) for row in rows]
        (project / f"{name}.jsonl").write_text("\n".join(lines))
    result = run(init, "alone.jsonl")
    assert "prepare.checks.near_leakage.max_share: 0.2 -> " in result.output
    assert (
        "Documents are much alike: " in result.output and "name it in corpus.columns.group" in result.output
    )
    assert "given splits" not in result.output
    shutil.copy(ROOT / "params.yaml", project)
    result = run(init, "grouped.jsonl")
    assert "corpus.columns.group: null -> thread" in result.output
    assert "near_leakage" not in result.output


def test_init_does_not_excuse_a_test_split_that_is_mostly_training_data(project):
    write_splits(project / "leaky", shared=30)
    before = load_params().prepare.checks.leakage
    result = run(init, "leaky")
    assert result.exit_code == 0 and "TOO MANY" in result.output
    assert load_params().prepare.checks.leakage == before


def test_no_more_of_a_document_is_read_than_summaries_draw_on():
    long = [f"filler{n}" for n in range(300)]
    early = [{"document": " ".join(["alpha", *long[:28], "beta", *long]), "summary": "Alpha, beta."}] * 20
    assert propose(early).source_max_length == 30  # beta is the 30th word
    late = [{"document": " ".join([*long, "alpha"]), "summary": "Alpha!"}] * 20
    assert propose(late).source_max_length == 310  # the 301st, in tens
    strange = [{"document": " ".join(long[:100]), "summary": "Nothing of it."}] * 20
    assert propose(strange).source_max_length == 100


def test_columns_without_telling_names_are_told_by_their_lengths():
    rows = [{"a": str(n), "b": hostile.text(n), "c": hostile.summary(n)} for n in range(20)]
    columns = guess_columns(rows)
    assert (columns.document, columns.summary) == ("b", "c")
    with pytest.raises(
        PrecisError, match=r"no two columns look like documents and their summaries; columns there: `a`"
    ):
        guess_columns([{"a": "1", "b": "2"}])
