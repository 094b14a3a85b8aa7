"""A hub that fails or hangs: one message that says what else works, in bounded time, and nothing half-written."""

import http.server
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["fails", "hangs"])
def hub(request):
    released = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if request.param == "hangs":
                released.wait(300)
                return
            self.send_error(503)

        do_HEAD = do_POST = do_GET  # noqa: N815  # their names are given

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    released.set()
    server.shutdown()


def test_a_hub_that_does_not_deliver_is_told_of(tmp_path, hub):
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["corpus"].update(source="hub")
    params["corpus"]["hub"].update(name="nobody/nothing")
    params["corpus"]["retries"].update(attempts=2, wait_seconds=0.1)
    with (tmp_path / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_ENDPOINT": hub}
    environment.pop("HF_HUB_OFFLINE", None)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "precis.stages.download"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    print(f"{time.monotonic() - begin:.0f} s, exit {done.returncode}: {done.stderr}")
    assert done.returncode in (1, 75)
    assert "nobody/nothing" in done.stderr and "corpus.source: files" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data/raw").exists()
    assert not list(tmp_path.rglob("*.part"))
