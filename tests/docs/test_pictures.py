"""The pictures of docs/models.md are drawn from models and documents, whichever they are."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from ruamel.yaml import YAML
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


def test_the_page_explains_every_parameter_of_the_models_and_every_equation_of_the_paper():
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    explained = {
        name
        for line in page.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    parameters = YAML(typ="safe").load((ROOT / "params.yaml").read_text(encoding="utf-8"))["model"]
    assert parameters.keys() - explained == set()
    cited = {int(number) for group in re.findall(r"\(eq\. ([\d, ]+)\)", page) for number in group.split(",")}
    assert set(range(1, 14)) - {5, 7} <= cited  # 5 and 7 are an index and a mean
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "precis").rglob("*.py"))
    named = set(re.findall(r"\b(?:def|class) (\w+)", code))
    for name in (
        "masked_log_softmax",
        "OutputLayer",
        "extend_source",
        "final_log_probs",
        "attend_with_coverage",
    ):
        assert name in page and name in named
