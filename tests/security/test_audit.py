"""`make audit` fails when it has not heard of every pinned version."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def audit(path: Path) -> subprocess.CompletedProcess[str]:
    # nothing listens there: the advisory service is out of reach
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py", path],
        env={**os.environ, **nowhere, "NO_PROXY": "", "no_proxy": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_audit_that_hears_nothing_fails(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("requests==2.32.4\n")
    done = audit(pins)
    assert done.returncode == 1
    assert "audit failed: 0 of 1 pinned versions were looked up" in done.stderr


def test_an_audit_of_nothing_fails(tmp_path):
    pins = tmp_path / "constraints.txt"
    pins.write_text("# nothing\n")
    assert audit(pins).returncode == 1


def test_every_pin_that_applies_here_is_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", "import audit; print(len(audit.pins(audit.CONSTRAINTS)))"],
        cwd=ROOT / ".ci",
        capture_output=True,
        text=True,
    )
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and ";" not in line
    ]
    assert int(done.stdout) >= len({line.split("==")[0] for line in lines})
