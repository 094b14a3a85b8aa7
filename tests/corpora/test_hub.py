"""The hub's datasets, through the real library."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hostile
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def run_download(folder, hub, columns, **environment):
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["corpus"].update(source="hub", max_rows=None)
    params["corpus"]["hub"].update(hub)
    params["corpus"]["columns"].update(columns)
    params["corpus"]["retries"].update(attempts=2, wait_seconds=0.1)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "precis.stages.download"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def dataset(tmp_path):
    """A folder as the hub has them: a card with the files of each split, and Parquet files."""
    folder = tmp_path / "tickets"
    (folder / "data").mkdir(parents=True)
    for split, numbers in (("train", range(40)), ("validation", range(40, 50)), ("test", range(50, 60))):
        table = {
            "ticket": [f"ticket {number}" for number in numbers],
            "body": [[hostile.text(number), "A second sentence."] for number in numbers],
            "titles": [[hostile.summary(number), f"Again {number}"] for number in numbers],
        }
        pq.write_table(pa.table(table), folder / f"data/{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain\n  data_files:\n"
        + "".join(
            f"  - split: {split}\n    path: data/{split}-*\n" for split in ("train", "validation", "test")
        )
        + "---\n# Tickets\n"
    )
    return folder


COLUMNS = {"id": "ticket", "document": "body", "summary": "titles", "references": "titles"}


def test_a_folder_in_the_hubs_layout_is_a_corpus(tmp_path, dataset):
    result = run_download(tmp_path, {"name": "./tickets", "config": "plain"}, COLUMNS)
    assert result.returncode == 0, result.stderr
    rows = pq.read_table(tmp_path / "data/raw/train.parquet").to_pylist()
    assert len(rows) == 40
    assert rows[3]["id"] == "ticket 3"
    assert rows[3]["document"] == f"{hostile.text(3)}\nA second sentence."
    assert rows[3]["summary"] == hostile.summary(3)
    assert rows[3]["references"] == [hostile.summary(3), "Again 3"]
    assert json.loads((tmp_path / "data/raw/checksums.json").read_text())["test"]["rows"] == 10
    misspelt = run_download(
        tmp_path, {"name": "./tickets", "config": "plain"}, {**COLUMNS, "document": "boddy"}
    )
    assert misspelt.returncode == 1
    assert "no column `boddy`; did you mean `body`?" in misspelt.stderr
    assert "Traceback" not in misspelt.stderr


def test_a_hub_out_of_reach_fails_fast_and_says_what_else_works(tmp_path):
    start = time.monotonic()
    result = run_download(tmp_path, {"name": "nobody/nothing", "revision": "abc"}, {})
    assert time.monotonic() - start < 60  # most of it imports
    assert result.returncode == 1
    assert "nobody/nothing at revision abc is neither in reach nor in the cache" in result.stderr
    assert "corpus.source: files" in result.stderr and str(tmp_path / "cache") in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data/raw").exists()


@pytest.mark.faults
def test_a_hub_that_answers_with_errors_may_be_asked_again_later(tmp_path):
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(503)

        do_HEAD = do_POST = do_GET  # noqa: N815 - the names that http.server asks for

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = run_download(
            tmp_path,
            {"name": "someone/mails"},
            {},
            HF_HUB_OFFLINE="0",
            HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
        )
        server.shutdown()
    assert done.returncode == 75, done.stderr
    assert "someone/mails" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "data/raw").exists()
