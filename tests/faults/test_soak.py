"""Ten kills, one in every stage and one more; `python tests/faults/soak.py --kills 50` for more."""

import os

import pytest
import soak


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_ten_kills_end_in_the_bytes_and_the_history_of_an_undisturbed_run(tmp_path, capfd):
    assert soak.soak(10, int(os.environ.get("KILL_SEED", "1")), tmp_path) == 0
    assert "10 kills" in capfd.readouterr().out
