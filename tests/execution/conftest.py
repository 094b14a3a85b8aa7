"""A corpus with something for every check, and the stages that prepare it run as processes."""

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def write_corpus(path, num_rows=3_000, seed=5):
    """Three chunks of rows, some of them copies, near copies, empty or unreadable."""
    generator = random.Random(seed)
    words = [f"{a}{b}{c}" for a in "bcdfglmn" for b in "aeiou" for c in ("r", "st", "ng", "lt", "x")]
    rows = []
    for number in range(num_rows):
        text = [generator.choice(words) for _ in range(generator.randint(30, 60))]
        rows.append({"id": f"row/{number}", "document": " ".join(text), "summary": " ".join(text[3:8])})
    for number in range(0, num_rows, 25):
        row = dict(rows[number])
        kind = (number // 25) % 5
        if kind == 0:
            row |= {"id": f"copy/{number}"}
        elif kind == 1:
            row |= {"id": f"near/{number}", "document": row["document"] + " more"}
        elif kind == 2:
            row |= {"id": f"empty/{number}", "document": " … "}
        elif kind == 3:
            row |= {"id": f"markup/{number}", "document": "<div>" + row["document"]}
        rows.append(row)
    generator.shuffle(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_params(folder, **execution):
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["corpus"] |= {"source": "files", "max_rows": None}
    params["corpus"]["files"]["path"] = "corpus.jsonl"
    params["prepare"]["near_duplicates"]["search"] = True
    for check in params["prepare"]["checks"].values():
        check["max_share"] = 1.0
    params["evaluation"]["batch_size"] = 16
    params["evaluation"]["resamples"] = 100
    params["execution"] |= execution
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)


def write_model(folder, num_rows):
    """A small model, models/pointer, and a test split for it to summarize, with sources of all lengths."""
    path = ROOT / "tests/serving/tiny_model.py"
    spec = importlib.util.spec_from_file_location("tiny_model", path)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    tiny.write_model(folder / "models/pointer", "pointer")
    generator = random.Random(7)
    words = " ".join(tiny.DOCUMENTS).split()
    documents = [" ".join(generator.choices(words, k=generator.randint(3, 30))) for _ in range(num_rows)]
    columns = {"id": [f"row/{n}" for n in range(num_rows)], "document": documents}
    columns["summary"] = [" ".join(document.split()[:4]) for document in documents]
    (folder / "data/prepared").mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "data/prepared/test.parquet", row_group_size=100)


def run_stage(name, folder, *arguments, timeout=280, **environment):
    return subprocess.run(
        [sys.executable, "-m", f"precis.stages.{name}", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for top in ("data", "reports")
        for path in sorted((folder / top).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def prepared_here(tmp_path_factory):
    """A folder with the results of download, prepare, vocabulary and encode in this machine's processes."""
    folder = tmp_path_factory.mktemp("here")
    write_corpus(folder / "corpus.jsonl")
    write_params(folder, engine="local")
    for stage in ("download", "prepare", "vocabulary", "encode"):
        done = run_stage(stage, folder)
        assert done.returncode == 0, done.stderr
    return folder
