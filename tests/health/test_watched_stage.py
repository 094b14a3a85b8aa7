"""What a stage reads and writes is seen whoever does it: Python, C++ or a shell; and compared with dvc.yaml."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import copy

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from precis.errors import PrecisError
from precis.health.opened_files import OpenedFiles
from precis.health.watched_stage import DeclaredStage, Observed, declared_stages, gaps, watch_stage

ROOT = Path(__file__).parents[2]
STAGE = DeclaredStage(
    "train@pointer", "true", ("data", "src/a.py"), ("train", "text.lowercase"), ("models/pointer",)
)
HONEST = Observed(
    opened=frozenset({"data/x.arrow", "src/a.py", "params.yaml", "models/pointer/m.json"}),
    written=frozenset({"models/pointer/m.json", "models/.pointer.x1.part"}),
    params=frozenset({"train.seed", "text.lowercase"}),
)


def environment():
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_arrow_and_other_processes_are_seen_and_what_nobody_opens_is_not(tmp_path):
    (tmp_path / "data").mkdir()
    for name in ("read.parquet", "not read.parquet"):
        pq.write_table(pa.table({"a": [1]}), tmp_path / "data" / name)
    (tmp_path / "words.txt").write_text("a b")
    with OpenedFiles(tmp_path) as files:
        pq.read_table(tmp_path / "data/read.parquet")
        subprocess.run("cat words.txt > copy.txt", shell=True, cwd=tmp_path, check=True)
    assert files.opened == {"data/read.parquet", "words.txt", "copy.txt"}
    assert files.written == {"copy.txt"}


def test_a_stage_that_does_as_it_says_has_no_gap():
    assert gaps(STAGE, HONEST) == []


@pytest.mark.parametrize(
    ("change", "found", "repair"),
    [
        ({"opened": {"config/extra.yaml"}}, "reads config/extra.yaml", "stages.train.deps"),
        ({"params": {"model.cell"}}, "reads the parameter model.cell", "stages.train.params"),
        ({"params": {"text"}}, "reads the parameter text", "stages.train.params"),
        ({"opened": {"out.txt"}, "written": {"out.txt"}}, "writes out.txt", "stages.train.outs"),
    ],
)
def test_what_dvc_yaml_does_not_say_is_told_with_its_repair(change, found, repair):
    observed = Observed(**{
        name: getattr(HONEST, name) | change.get(name, set()) for name in ("opened", "written", "params")
    })  # fmt: skip
    (gap,) = gaps(STAGE, observed)
    assert gap.found.startswith(f"train@pointer {found}")
    assert repair in gap.repair


def test_what_dvc_yaml_says_in_vain_is_told_too():
    idle = Observed(HONEST.opened - {"data/x.arrow"}, HONEST.written, HONEST.params - {"text.lowercase"})
    assert [gap.found.partition(":")[0] for gap in gaps(STAGE, idle)] == [
        "train@pointer did not open data",
        "train@pointer did not read the parameter text.lowercase",
    ]


def test_a_hidden_input_and_a_hidden_parameter_of_a_running_stage_are_found(tmp_path):
    copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "notes.txt").write_text("a b")
    (tmp_path / "given.txt").write_text("c")
    (tmp_path / "count.py").write_text(
        "from pathlib import Path\n"
        "from precis.params import load_params\n"
        "params = load_params()\n"
        "text = Path('given.txt').read_text() + Path('notes.txt').read_text()\n"
        "Path('out.txt').write_text(text * params.train.seed + str(params.train.max_epochs))\n"
    )
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  count:\n    cmd: python count.py\n    deps: [count.py, given.txt]\n"
        "    params: [train.seed]\n    outs: [out.txt]\n"
    )
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    (stage,) = declared_stages(tmp_path)
    found = [gap.found.partition(":")[0] for gap in gaps(stage, watch_stage(tmp_path, stage, environment()))]
    assert found == ["count reads notes.txt", "count reads the parameter train.max_epochs"]


def test_a_stage_that_fails_is_told_with_its_last_words(tmp_path):
    stage = DeclaredStage("broken", "echo no such column >&2; exit 3", (), (), ())
    with pytest.raises(PrecisError, match=r"(?s)broken ended with 3.*no such column"):
        watch_stage(tmp_path, stage, environment())
