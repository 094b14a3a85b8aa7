"""Bytes that changed behind DVC's back are found before a stage reads them."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from precis.errors import PrecisError
from precis.stages.inputs import verify_inputs

GRAPH = """\
stages:
  make:
    cmd: python make.py
    outs: [data]
  use:
    matrix:
      model: [small, large]
    cmd: python use.py ${item.model}
    deps: [data/rows.bin]
    params: [threads]
    outs: ["${item.model}.txt"]
"""
MAKE = """\
import random
from pathlib import Path
from precis.stages.entry import run_stage

def main():
    Path("data").mkdir(exist_ok=True)
    Path("data/rows.bin").write_bytes(random.Random(1).randbytes(4_000))
    Path("data/other.bin").write_bytes(b"other")

run_stage(main)
"""
USE = """\
import sys
from pathlib import Path
from precis.stages.entry import run_stage

run_stage(lambda: Path(f"{sys.argv[1]}.txt").write_text(str(sum(Path("data/rows.bin").read_bytes()))))
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("inputs")
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "make.py").write_text(MAKE)
    (root / "use.py").write_text(USE)
    (root / "params.yaml").write_text("threads: 1\n")
    dvc(root, "init", "--no-scm", "-q")
    assert dvc(root, "repro").returncode == 0
    return root


def dvc(root, *arguments):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=root, env=environment, capture_output=True, text=True
    )


def change_quietly(path, content):
    """As a disk does: neither time nor size tell of it."""
    times = path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def flipped(content, bit):
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


def test_every_flipped_bit_and_every_cut_is_found(repository, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "use@small")
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.setattr(
        "precis.stages.inputs.cache_directory", lambda root: root / ".dvc" / "cache"
    )  # 1 s each
    path = repository / "data/rows.bin"
    whole = path.read_bytes()
    generator = random.Random(7)
    spoiled = [flipped(whole, generator.randrange(8 * len(whole))) for _ in range(400)]
    spoiled += [whole[: generator.randrange(len(whole))] for _ in range(100)]
    try:
        for content in spoiled:
            change_quietly(path, content)
            with pytest.raises(
                PrecisError, match=r"data \(data/rows.bin\) has other bytes than the stage make wrote"
            ):
                verify_inputs(repository)
    finally:
        change_quietly(path, whole)
    verify_inputs(repository)


def test_a_bit_that_flipped_in_the_cache_is_found_and_mended_as_the_message_says(repository, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(repository, root)
    rows = (root / "data/rows.bin").read_bytes()
    (cached,) = [
        path for path in (root / ".dvc/cache").rglob("*") if path.is_file() and path.read_bytes() == rows
    ]
    change_quietly(cached, flipped(rows, 12_345))
    cached.chmod(0o444)
    shutil.rmtree(root / "data")
    # what DVC itself makes of it: the damaged bytes come back, and all is said to be well
    assert dvc(root, "checkout").returncode == 0
    assert (root / "data/rows.bin").read_bytes() != rows
    assert "up to date" in dvc(root, "status").stdout
    (root / "params.yaml").write_text("threads: 2\n")
    refused = dvc(root, "repro")
    assert refused.returncode != 0
    assert f"remove data and {cached}" in refused.stderr and "Traceback" not in refused.stderr
    shutil.rmtree(root / "data")
    cached.unlink()
    again = dvc(root, "repro")
    assert again.returncode == 0, again.stderr
    assert (root / "data/rows.bin").read_bytes() == rows


def test_what_is_missing_is_made_anew(repository, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(repository, root)
    (root / "data/rows.bin").unlink()
    again = dvc(root, "repro")
    assert again.returncode == 0, again.stderr
    assert (root / "data/rows.bin").read_bytes() == (repository / "data/rows.bin").read_bytes()
