"""kill -9 at any moment: the next run of the stage ends in the bytes of an undisturbed one."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/corpora"))
import hostile  # noqa: E402

STAGES = ("download", "prepare", "vocabulary", "encode")


def start(stage, folder):
    return subprocess.Popen(
        [sys.executable, "-m", f"precis.stages.{stage}"], cwd=folder, stderr=subprocess.DEVNULL
    )


def outputs(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".yaml")
    return {path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def visible(folder):
    return {path.name for path in (folder / "data").iterdir() if not path.name.startswith(".")}


@pytest.mark.faults
def test_stages_killed_at_random_moments_end_in_the_same_bytes(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/corpus.jsonl").write_bytes(b"".join(hostile.row(n) + b"\n" for n in range(3_000)))
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["corpus"].update(source="files", max_rows=None)
    params["corpus"]["files"]["path"] = "../source"
    expected, seconds = {}, {}
    for name in ("calm", "killed"):
        (tmp_path / name).mkdir()
        with (tmp_path / name / "params.yaml").open("w") as file:
            yaml.dump(params, file)
    for stage in STAGES:
        begin = time.monotonic()
        assert start(stage, tmp_path / "calm").wait() == 0
        seconds[stage] = time.monotonic() - begin
        expected[stage] = outputs(tmp_path / "calm")
    generator = random.Random(int(os.environ.get("KILL_SEED", "1")))
    folder = tmp_path / "killed"
    for stage in STAGES:
        kills = 0
        for _ in range(10):
            process = start(stage, folder)
            time.sleep(generator.uniform(0.3, 1.0) * seconds[stage])
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            # nothing half-written has a name that a later stage reads
            now = {path: digest for path, digest in outputs(folder).items() if ".part" not in str(path)}
            assert all(expected[stage].get(path) == digest for path, digest in now.items())
        assert kills >= 5, f"{stage} ended before it could be killed"
        assert start(stage, folder).wait() == 0
        assert outputs(folder) == expected[stage]
    assert visible(folder) == {"raw", "prepared", "vocabulary", "encoded"}
