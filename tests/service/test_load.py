"""The promises about load but for those of times, kept for a minute."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serve_load.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_minute_at_80_percent_and_a_storm_break_no_promise():
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--seconds", "60", "--untimed"], capture_output=True, text=True
    )
    assert ran.returncode == 0 and json.loads(ran.stdout)["broken"] == [], ran.stdout + ran.stderr
