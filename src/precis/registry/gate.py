"""Whether a challenger may take the champion's place: a pure decision on evidence.

What the error is: with identical quality, the lower end of the interval of the difference exceeds 0 in at
most (1 - confidence) / 2 of all cases, about. Identical models differ by 0 and are never promoted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precis.evaluation.significance import Difference, paired_difference

POINTS = "points of ROUGE F1"


@dataclass(frozen=True)
class Thresholds:
    """What `params.yaml: gate` says; see there."""

    minimum_gain: float
    max_repetition_increase: float
    max_unsupported_increase: float
    max_empty_increase: float
    max_latency_ratio: float
    max_size_ratio: float
    resamples: int
    confidence: float
    seed: int


@dataclass(frozen=True)
class Evidence:
    """What one system showed on the test set. Arrays have one value per document, (N,).

    Attributes:
        name: as a person would call it, for instance "version 3".
        test_digest: of the test set's bytes.
        convention: how ROUGE was computed.
        decoding: the settings that its summaries were made with.
        rouge: points of F1, of the gate's metric.
        repetition: share of the two-word phrases of a summary that it had before.
        unsupported: share of its words that are neither in the document nor frequent.
        empty: 1 where there is no summary.
        p95_seconds: time within which 95 of 100 single documents were answered.
        size_bytes: of its weights.
        failed_behaviours: what went wrong in the behavioural checks, one sentence each.
    """

    name: str
    test_digest: str
    convention: str
    decoding: Mapping[str, Any]
    rouge: NDArray[np.float64]
    repetition: NDArray[np.float64]
    unsupported: NDArray[np.float64]
    empty: NDArray[np.float64]
    p95_seconds: float
    size_bytes: int
    failed_behaviours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One condition of the promotion, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Decision:
    """Promote or not, and why."""

    promote: bool
    reason: str
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def decide(
    challenger: Evidence,
    champion: Evidence | None,
    lead_rouge: NDArray[np.float64],
    *,
    lead_name: str,
    thresholds: Thresholds,
) -> Decision:
    """Promote exactly if all checks pass.

    Args:
        challenger: the candidate.
        champion: what is served; None if nothing is: then the challenger must beat the lead baseline.
        lead_rouge: the lead baseline's points on the same documents, (N,).
        lead_name: what to call it, for instance "lead-1".
        thresholds: the margins.
    """
    notes: list[str] = []
    if champion is None:
        checks = [_gain(challenger.rouge, lead_rouge, lead_name, thresholds)]
    else:
        if refusal := _incomparable(challenger, champion, lead_rouge):
            return Decision(False, "refused: " + refusal, (Check("same test set", False, refusal),))
        checks = [
            Check(
                "same test set", True, f"{len(challenger.rouge):,} documents, {challenger.test_digest[:12]}"
            )
        ]
        checks.append(_gain(challenger.rouge, champion.rouge, champion.name, thresholds))
        checks += [
            _not_more(
                "repetition",
                challenger.repetition,
                champion.repetition,
                thresholds.max_repetition_increase,
                thresholds,
            ),
            _not_more(
                "unsupported words",
                challenger.unsupported,
                champion.unsupported,
                thresholds.max_unsupported_increase,
                thresholds,
            ),
            _not_more(
                "empty summaries", challenger.empty, champion.empty, thresholds.max_empty_increase, thresholds
            ),
            _ratio(
                "p95 latency", challenger.p95_seconds, champion.p95_seconds, thresholds.max_latency_ratio, "s"
            ),
            _ratio(
                "size",
                challenger.size_bytes / 1e6,
                champion.size_bytes / 1e6,
                thresholds.max_size_ratio,
                "MB",
            ),
        ]
        changed = sorted(
            key
            for key in challenger.decoding.keys() | champion.decoding.keys()
            if challenger.decoding.get(key) != champion.decoding.get(key)
        )
        notes += [
            f"each decodes as it is served: {key} is {challenger.decoding.get(key)}, "
            f"with {champion.name} {champion.decoding.get(key)}"
            for key in changed
        ]
    failed = challenger.failed_behaviours
    checks.append(Check("behaviour", not failed, "; ".join(failed) or "all checks passed"))
    missed = [check for check in checks if not check.passed]
    if missed:
        reason = "kept out: " + "; ".join(f"{check.name} ({check.found})" for check in missed)
    else:
        reason = next(f"better: {check.found}" for check in checks if check.name == "gain")
    return Decision(not missed, reason, tuple(checks), tuple(notes))


def _incomparable(challenger: Evidence, champion: Evidence, lead_rouge: NDArray[np.float64]) -> str | None:
    if challenger.test_digest != champion.test_digest:
        return (
            f"{challenger.name} was tested on {challenger.test_digest[:12]}, {champion.name} on "
            f"{champion.test_digest[:12]}: the test set changed in between; run the gate again"
        )
    if challenger.convention != champion.convention:
        return (
            f"ROUGE was computed as {challenger.convention} and as {champion.convention}: run the gate again"
        )
    if not len(challenger.rouge) == len(champion.rouge) == len(lead_rouge):
        return (
            f"{len(challenger.rouge)}, {len(champion.rouge)} and {len(lead_rouge)} documents were scored: "
            "run the gate again"
        )
    return None


def _gain(ours: NDArray[np.float64], theirs: NDArray[np.float64], name: str, thresholds: Thresholds) -> Check:
    difference = _difference(theirs, ours, thresholds)
    found = (
        f"{difference.mean:+.2f} {POINTS} against {name}, {thresholds.confidence:.0%} interval "
        f"[{difference.low:+.2f}, {difference.high:+.2f}], must exceed {thresholds.minimum_gain:+.2f}"
    )
    # strictly: identical models have the interval [0, 0]
    return Check("gain", difference.low > thresholds.minimum_gain, found)


def _not_more(
    name: str,
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    margin: float,
    thresholds: Thresholds,
) -> Check:
    difference = _difference(theirs, ours, thresholds)
    found = (
        f"{ours.mean():.2%} after {theirs.mean():.2%}; the difference is surely below {difference.high:+.2%}, "
        f"at most {margin:+.2%} is allowed"
    )
    return Check(name, difference.high <= margin, found)


def _ratio(name: str, ours: float, theirs: float, limit: float, unit: str) -> Check:
    return Check(
        name,
        ours <= theirs * limit,
        f"{ours:.3f} {unit} after {theirs:.3f} {unit}, at most {limit:g} times as much",
    )


def _difference(a: NDArray[np.float64], b: NDArray[np.float64], thresholds: Thresholds) -> Difference:
    return paired_difference(
        a, b, resamples=thresholds.resamples, confidence=thresholds.confidence, seed=thresholds.seed
    )
