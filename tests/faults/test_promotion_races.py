"""Two processes promote at once, and one of them is killed between reading and writing: the champion is never wrong.

`PROMOTION_RACES=200 python -m pytest -m faults tests/faults/test_promotion_races.py` for more of them.
"""

import json
import os
import random
import signal
import time
from itertools import pairwise

import pytest
from mlflow import MlflowClient

from precis.errors import PrecisError
from precis.registry import promotion
from precis.registry.versions import CHAMPION, PREVIOUS, find_alias, make_version
from precis.training import tracking

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
NAME, NUM_VERSIONS = "precis", 4


def in_process(work):
    """Start `work` in a process of its own, without the seconds that importing takes; gives it and its pipe."""
    read, write = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(read)
        answer = None
        try:
            answer = work()
        finally:
            os.write(write, json.dumps(answer).encode())
            os._exit(0)
    os.close(write)
    return process, read


def answer(process, read):
    with os.fdopen(read, "rb") as file:
        text = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), json.loads(text) if text else None


def ask(work):
    exit_code, found = answer(*in_process(work))
    assert exit_code == 0
    return found


def prepare():
    client = tracking.configure()
    for number in range(NUM_VERSIONS):
        make_version(client, NAME, source=f"file:///{number}", run_id=None, tags={})
    promotion.promote(client, NAME, 1, expected_champion=None, reason="first")


def race(number, expected, killed_before, go):
    """Promote a version that was compared with `expected`; die before a call of MLflow if asked to."""

    def work():
        client = tracking.configure()
        if killed_before is not None:

            def die(*_, **__):
                os.kill(os.getpid(), signal.SIGKILL)

            setattr(MlflowClient, killed_before, die)
        while not go.exists():
            time.sleep(0.001)
        try:
            promotion.promote(client, NAME, number, expected_champion=expected, reason="better", again=True)
        except PrecisError:
            return False
        return True

    return work


def look():
    """Settle what was cut off, as the next command does; champion, the one before, and the history."""
    client = tracking.configure()
    champion = promotion.champion_of(client, NAME).number
    previous = find_alias(client, NAME, PREVIOUS)
    records = promotion.history(client, NAME)
    return {
        "champion": champion,
        "alias": find_alias(client, NAME, CHAMPION).number,
        "previous": previous.number if previous is not None else None,
        "last": records[-1].champion_after,
        "numbers": [record.number for record in records],
        "chain": all(after.champion_before == before.champion_after for before, after in pairwise(records)),
        "open": len(promotion.open_records(client, NAME)),
    }


def roll_back():
    client = tracking.configure()
    begin = time.monotonic()
    promotion.rollback(client, NAME, reason="wrong")
    return time.monotonic() - begin


def test_of_two_processes_one_wins_also_when_one_is_killed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    generator = random.Random(5)
    ask(prepare)
    races, killed, longest = int(os.environ.get("PROMOTION_RACES", "8")), 0, 0.0
    for round_ in range(races):
        before = ask(look)["champion"]
        rivals = generator.sample([number for number in range(1, NUM_VERSIONS + 1) if number != before], 2)
        # the call that moves the aliases, the one that closes the record, the one that opens it, or none
        death = generator.choice(["set_registered_model_alias", "set_terminated", "create_run", None])
        go = tmp_path / f"go{round_}"
        processes = [
            in_process(race(number, before, killed_before, go))
            for number, killed_before in zip(rivals, (death, None), strict=True)
        ]
        go.touch()
        ends = [answer(*process) for process in processes]
        killed += ends[0][0] == -signal.SIGKILL
        assert ends[1][0] == 0
        found = ask(look)
        told = [number for number, (_, won) in zip(rivals, ends, strict=True) if won]
        assert len(told) <= 1, "a decision about a champion that had changed took effect"
        if told:
            assert found["champion"] == told[0]
        else:  # the one that was killed had moved the alias before, or nothing happened but its death
            assert found["champion"] in (rivals[0], before)
        assert found["alias"] == found["last"] == found["champion"]
        assert found["chain"] and found["open"] == 0
        assert found["numbers"] == sorted(set(found["numbers"]))
        if found["champion"] != before:
            assert found["previous"] == before
            if round_ % 4 == 0:
                longest = max(longest, ask(roll_back))
                assert ask(look)["champion"] == before
    print(f"{races} races, {killed} with a kill, 0 wrong; the longest rollback took {longest:.1f} s")
