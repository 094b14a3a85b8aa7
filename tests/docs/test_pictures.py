"""The pictures of docs/models.md are drawn from models and documents, whichever they are."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_model import write_model

ROOT = Path(__file__).parents[2]
SENTENCES = (
    "the quick brown fox jumps over a lazy dog and stops",
    "zebras near every green lake drink when heavy rains begin",
    "old maps of this harbour show two bridges that fell",
)


@pytest.fixture
def project(tmp_path):
    for number, name in enumerate(("pointer", "attention", "encoder_decoder")):
        write_model(tmp_path / "models" / name, name, seed=number)
    rows = [
        {"id": f"{a}{b}", "document": f"{SENTENCES[a]} {SENTENCES[b]}", "summary": SENTENCES[b]}
        for a in range(3)
        for b in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    (tmp_path / "images").mkdir()
    return tmp_path


def draw(project: Path) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        str(ROOT / "docs" / "pictures.py"),
        "--models",
        "models",
        "--test",
        "test.parquet",
    ]
    return subprocess.run([*command, "--into", "images"], cwd=project, capture_output=True, text=True)


def test_every_picture_of_the_page_is_drawn_and_is_the_same_the_second_time(project):
    result = draw(project)
    assert result.returncode == 0, result.stderr
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    drawn = sorted((project / "images").iterdir())
    assert [path.name for path in drawn] == sorted(
        path.name for path in (ROOT / "docs" / "images").glob("models-*.png")
    )
    for path in drawn:
        assert f"](images/{path.name})" in page
        assert Image.open(path).width == 1080
    first = [path.read_bytes() for path in drawn]
    draw(project)
    assert [path.read_bytes() for path in drawn] == first


def test_models_that_copy_nothing_unknown_are_told_of(project):
    rows = [{"id": "1", "document": "too short", "summary": "short"}]
    pq.write_table(pa.Table.from_pylist(rows), project / "test.parquet")
    result = draw(project)
    assert result.returncode == 1 and "\nerror: test.parquet has no document of" in result.stderr
