import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from precis.errors import PrecisError
from precis.registry import promotion
from precis.registry.versions import CHAMPION, PREVIOUS, find_alias, make_version
from precis.training import tracking

NAME = "precis"


@pytest.fixture
def versions(client):
    make_versions(client, 4)
    return client


def make_versions(client, number):
    for seed in range(number):
        make_version(
            client, NAME, source=f"file:///model-{seed}", run_id=None, tags={"precis.digest": str(seed)}
        )


def aliases(client):
    found = [find_alias(client, NAME, alias) for alias in (CHAMPION, PREVIOUS)]
    return [version.number if version is not None else None for version in found]


def promote(client, number, expected, **options):
    return promotion.promote(client, NAME, number, expected_champion=expected, reason="better", **options)


def test_a_promotion_moves_both_aliases_and_says_why_and_who(versions, monkeypatch):
    monkeypatch.setenv("PRECIS_FLOW_RUN_ID", "1234")
    promote(versions, 1, None)
    promote(versions, 3, 1, evidence={"gain": 2.0})
    assert aliases(versions) == [3, 1]
    first, second = promotion.history(versions, NAME)
    assert (first.number, first.champion_before, first.champion_after) == (1, None, 1)
    assert (second.number, second.champion_before, second.champion_after) == (2, 1, 3)
    assert (second.reason, second.by) == ("better", "flow run 1234")
    import mlflow

    assert mlflow.artifacts.load_dict(f"runs:/{second.run_id}/evidence.json") == {"gain": 2.0}


def test_a_decision_about_another_champion_is_refused_and_recorded(versions):
    promote(versions, 1, None)
    promote(versions, 2, 1)
    with pytest.raises(
        promotion.ChampionChangedError, match="compared with version 1, but the champion is now version 2"
    ):
        promote(versions, 3, 1)
    assert aliases(versions) == [2, 1]
    assert [record.event for record in promotion.history(versions, NAME)] == ["promote", "promote", "keep"]


def test_two_promotions_at_once_leave_one_champion_and_both_records(versions):
    promote(versions, 1, None)
    for round_ in range(5):
        before = aliases(versions)[0]
        pair = [number for number in (1, 2, 3, 4) if number != before][:2]
        barrier = Barrier(2)

        def race(number, before=before, barrier=barrier):
            barrier.wait()
            try:
                promote(versions, number, before, again=True)
            except promotion.ChampionChangedError:
                return None
            return number

        with ThreadPoolExecutor(2) as pool:
            winners = [number for number in pool.map(race, pair) if number is not None]
        assert winners == [aliases(versions)[0]]
        assert len(promotion.history(versions, NAME)) == 1 + 2 * (round_ + 1)


def test_rollback_walks_back_and_marks_what_it_left(versions):
    for number, before in ((1, None), (2, 1), (3, 2)):
        promote(versions, number, before)
    promotion.rollback(versions, NAME, reason="wrong names")
    assert aliases(versions) == [2, 1]
    with pytest.raises(PrecisError, match="version 3 of precis was rolled back \\(wrong names\\)"):
        promote(versions, 3, 2)
    promotion.rollback(versions, NAME, reason="still wrong")
    assert aliases(versions) == [1, None]
    with pytest.raises(PrecisError, match="first champion"):
        promotion.rollback(versions, NAME, reason="more")
    promote(versions, 3, 1, again=True)
    assert aliases(versions) == [3, 1]


def test_rollback_to_a_version_that_never_was_champion_is_refused(versions):
    promote(versions, 1, None)
    with pytest.raises(PrecisError, match="version 4 of precis never was champion"):
        promotion.rollback(versions, NAME, reason="why not", to=4)


@pytest.mark.parametrize("after_aliases", [False, True])
def test_what_a_crash_leaves_open_is_settled_by_the_next_operation(versions, monkeypatch, after_aliases):
    promote(versions, 1, None)
    broken = "set_terminated" if after_aliases else "set_registered_model_alias"

    def die(*arguments, **options):
        raise KeyboardInterrupt  # as a kill: nothing after it runs

    with monkeypatch.context() as patch:
        patch.setattr(versions, broken, die)
        with pytest.raises(KeyboardInterrupt):
            promote(versions, 2, 1)
    champion = promotion.champion_of(versions, NAME)
    assert champion.number == (2 if after_aliases else 1)
    assert [record.champion_after for record in promotion.history(versions, NAME)] == (
        [1, 2] if after_aliases else [1]
    )
    assert aliases(versions) == ([2, 1] if after_aliases else [1, None])


def test_an_alias_moved_by_hand_is_found_and_told(versions):
    promote(versions, 1, None)
    versions.set_registered_model_alias(NAME, CHAMPION, "4")
    assert promotion.champion_of(versions, NAME).number == 4
    assert promotion.history(versions, NAME)[-1].event == "found"
    assert aliases(versions) == [4, 1]


class Registry(RuleBasedStateMachine):
    """Random operations against a plain list: the champions so far, and the set of those rolled back."""

    database: Path

    @initialize()
    def empty(self):
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.database, self.folder / "mlflow.db")
        self.patch = pytest.MonkeyPatch()
        self.patch.chdir(self.folder)
        self.patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{self.folder / 'mlflow.db'}")
        self.patch.delenv("MLFLOW_REGISTRY_URI", raising=False)  # MLflow sets it
        self.client = tracking.configure()
        make_versions(self.client, 3)
        self.stack: list[int] = []
        self.out: set[int] = set()
        self.records = 0

    @rule(number=st.integers(1, 3), again=st.booleans())
    def promote(self, number, again):
        champion = self.stack[-1] if self.stack else None
        try:
            promote(self.client, number, champion, again=again)
        except PrecisError:
            assert number == champion or (number in self.out and not again)
            return
        assert number != champion and (again or number not in self.out)
        self.out.discard(number)
        self.stack.append(number)
        self.records += 1

    @rule(number=st.integers(1, 3))
    def refuse(self, number):
        promotion.keep(self.client, NAME, number, reason="not better")
        self.records += 1

    @rule()
    def roll_back(self):
        try:
            promotion.rollback(self.client, NAME, reason="wrong")
        except PrecisError:
            assert len(self.stack) < 2
            return
        self.out.add(self.stack.pop())
        self.out.discard(self.stack[-1])
        self.records += 1

    @precondition(lambda self: self.stack)
    @rule(number=st.integers(1, 3))
    def roll_back_to(self, number):
        try:
            promotion.rollback(self.client, NAME, reason="wrong", to=number)
        except PrecisError:
            former = {record.champion_after for record in promotion.history(self.client, NAME)}
            assert number == self.stack[-1] or number not in former
            return
        if number in self.stack:
            while self.stack[-1] != number:
                self.out.add(self.stack.pop())
        else:
            self.out.add(self.stack.pop())
            self.stack.append(number)
        self.out.discard(number)
        self.records += 1

    @invariant()
    def aliases_and_history_agree(self):
        if not hasattr(self, "client"):
            return
        assert aliases(self.client) == [
            self.stack[-1] if self.stack else None,
            self.stack[-2] if len(self.stack) > 1 else None,
        ]
        records = promotion.history(self.client, NAME)
        assert [record.number for record in records] == list(range(1, self.records + 1))
        assert (records[-1].stack if records else ()) == tuple(self.stack)
        for before, after in pairwise(records):
            assert after.champion_before == before.champion_after

    def teardown(self):
        if hasattr(self, "patch"):
            self.patch.undo()
            shutil.rmtree(self.folder)


def test_rollback_and_history_hold_through_a_hundred_random_operations(empty_database):
    Registry.database = empty_database
    run_state_machine_as_test(
        Registry,
        settings=settings(
            max_examples=5,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
