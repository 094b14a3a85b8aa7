"""A corpus that is streamed out of a real S3 store, by the stage itself."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900)]
SPLITS = ("train", "validation", "test")


def project(folder, location):
    folder.mkdir()
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    corpus = params["corpus"]
    corpus.update(source="files", streaming=True, max_rows=None)
    corpus["shuffle"]["buffer_rows"] = 500
    corpus["files"]["path"] = location
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    return folder


def parts(folder):
    return len(list((folder / ".work" / "stream").glob("*/part-*.parquet")))


def rows_of(folder):
    return {split: (folder / "data" / "raw" / f"{split}.parquet").read_bytes() for split in SPLITS}


def test_a_stream_out_of_s3_that_is_killed_ends_with_the_bytes_of_local_files(stores, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for shard in range(3):
        lines = [
            json.dumps(
                {
                    "id": f"{shard}-{row}",
                    "document": f"document {shard} {row} of many",
                    "summary": f"row {row}",
                }
            )
            for row in range(2_000)
        ]
        (source / f"{shard}.jsonl").write_text("\n".join(lines) + "\n")
        stores.bucket().upload_file(str(source / f"{shard}.jsonl"), f"streamed/{shard}.jsonl")
    here, there = project(tmp_path / "here", str(source)), project(tmp_path / "there", "s3://precis/streamed")
    environment = {**os.environ, **stores.environment}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "precis.stages.download"]
    subprocess.run(command, cwd=here, check=True)
    process = subprocess.Popen(command, cwd=there, env=environment)
    while process.poll() is None and parts(there) < 4:
        time.sleep(0.005)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert parts(there) >= 4 and not (there / "data" / "raw").exists()
    done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "going on after" in done.stderr, done.stderr
    assert rows_of(there) == rows_of(here)
    sources = json.loads((there / "data" / "raw" / "checksums.json").read_text())["sources"]
    assert set(sources) == {"0.jsonl", "1.jsonl", "2.jsonl"}
    # nothing of the source lies here
    shutil.rmtree(source)
    found = [path.relative_to(there).as_posix() for path in there.rglob("*") if path.is_file()]
    assert sorted(found) == [
        "data/raw/checksums.json", "data/raw/test.parquet", "data/raw/train.parquet", "data/raw/validation.parquet",
        "params.yaml",
    ]  # fmt: skip


def test_a_bucket_that_is_not_there_and_keys_that_do_not_fit_are_told(stores, tmp_path):
    environment = {**os.environ, **stores.environment, "AWS_ACCESS_KEY_ID": "nobody"}
    environment["AWS_SECRET_ACCESS_KEY"] = "guessed"  # pragma: allowlist secret
    wrong = project(tmp_path / "wrong", "s3://precis/streamed")
    done = subprocess.run(
        [sys.executable, "-m", "precis.stages.download"],
        cwd=wrong,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0 and "s3://precis/streamed" in done.stderr
    assert "Traceback" not in done.stderr and not (wrong / "data" / "raw").exists()
