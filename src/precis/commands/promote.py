"""Let the gate decide whether a version becomes champion."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from precis.errors import PrecisError
from precis.files import atomic_path
from precis.params import Params, load_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from precis.registry.gate import Decision
    from precis.registry.versions import Version

KEPT_EXIT = 3  # the gate decided against it: no error, and no promotion
REGISTERED = Path("reports/registered.json")
TEST = Path("data/prepared/test.parquet")
DECISION = Path(".work/gate")  # decision.json and decision.md, for flows and for reading


def promote(
    version: Annotated[int | None, typer.Option(help="which version; without it, the challenger")] = None,
    reason: Annotated[str, typer.Option(help="kept in the history, beside the gate's own")] = "",
    again: Annotated[bool, typer.Option(help="let a version back in that was rolled back")] = False,
    without_gate: Annotated[bool, typer.Option(help="promote unexamined; needs a reason")] = False,
    dry_run: Annotated[bool, typer.Option(help="say what the gate decides, move and record nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the decision as JSON")] = False,
) -> None:
    """Try the challenger against the champion on the test set; make it champion if it is better.

    Exit code 0: promoted. 3: the champion stays, for the reason that is told. 1: an error.
    """
    from precis.registry import promotion
    from precis.registry.versions import get_version
    from precis.training.tracking import configure

    params = load_params()
    if without_gate and not reason:
        raise PrecisError("--without-gate needs a --reason: the history would not say why it was done")
    client = configure()
    name = params.registry.name
    candidate = (
        challenger_of(client, name, move=not dry_run)
        if version is None
        else get_version(client, name, version)
    )
    if candidate is None:
        raise PrecisError(f"{name} has no challenger: run `dvc repro register` first")
    champion = promotion.champion_of(client, name)
    if champion is not None and champion.number == candidate.number:
        said = f"version {candidate.number} of {name} is champion already"
        decided = {
            "event": "none",
            "reason": "the challenger is champion already",
            "version": candidate.number,
        }
        _write_decision(decided)
        print(json.dumps(decided) if as_json else said)
        raise typer.Exit(KEPT_EXIT)
    expected = champion.number if champion is not None else None
    if without_gate:
        record = promotion.promote(
            client,
            name,
            candidate.number,
            expected_champion=expected,
            reason=f"without the gate: {reason}",
            again=again,
        )
        said = f"version {candidate.number} of {name} is champion (record {record.number})"
        decided = {
            "event": record.event,
            "reason": record.reason,
            "version": candidate.number,
            "champion": expected,
        }
        print(json.dumps(decided) if as_json else said)
        return
    if promotion.ROLLED_BACK_TAG in candidate.tags and not again:
        refusal = promotion.refused_again(candidate)
        if not dry_run:
            promotion.keep(client, name, candidate.number, reason=refusal)
        decided = {"event": "keep", "reason": refusal, "version": candidate.number, "champion": expected}
        _write_decision(decided)
        print(json.dumps(decided) if as_json else refusal)
        raise typer.Exit(KEPT_EXIT)
    decision = run_gate(client, params, candidate, champion)
    why = "; ".join(part for part in (decision.reason, reason) if part)
    evidence = {
        "challenger": _identity(candidate),
        "champion": _identity(champion) if champion is not None else None,
        **decision.as_dict(),
    }
    event = "promote" if decision.promote else "keep"
    if not dry_run:
        if decision.promote:
            promotion.promote(
                client,
                name,
                candidate.number,
                expected_champion=expected,
                reason=why,
                evidence=evidence,
                again=again,
            )
        else:
            promotion.keep(client, name, candidate.number, reason=why, evidence=evidence)
    page = as_markdown(decision, candidate.number, expected)
    values = {
        "event": event,
        "reason": why,
        "version": candidate.number,
        "champion": expected,
        "evidence": evidence,
    }
    _write_decision(values, page)
    print(json.dumps(values, indent=2) if as_json else page)
    if not decision.promote:
        raise typer.Exit(KEPT_EXIT)


def challenger_of(client: MlflowClient, name: str, *, move: bool) -> Version | None:
    """The version that this working copy registered last; the alias follows it.

    When parameters go back to what they were, DVC takes the output of `register` out of its cache and does not run
    it: the alias would stay at the version of the parameters that were given up.
    """
    from precis.registry.versions import CHALLENGER, find_alias, find_digest

    found = find_alias(client, name, CHALLENGER)
    try:
        registered = json.loads(REGISTERED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return found
    own = find_digest(client, name, registered["digest"]) if registered.get("name") == name else None
    if own is None or (found is not None and own.number == found.number):
        return found
    if move:
        client.set_registered_model_alias(name, CHALLENGER, str(own.number))
    print(
        f"version {own.number} of {name} is the challenger again: {REGISTERED} came from DVC's cache",
        file=sys.stderr,
    )
    return own


def _identity(version: Version) -> dict[str, Any]:
    """What finds a version's bytes and its training, also when its number is no longer there."""
    from precis.registry.versions import MODEL_TAG

    return {
        "version": version.number,
        "digest": version.digest,
        "run": version.run_id,
        "model": version.tags.get(MODEL_TAG),
    }


def run_gate(client: MlflowClient, params: Params, candidate: Version, champion: Version | None) -> Decision:
    """Try both on the test set of this working copy, after checking that it is the one of the evaluation."""
    import torch

    from precis.evaluation.rouge import RougeConvention
    from precis.registry.gate import Thresholds, decide
    from precis.registry.packaging import unpacked
    from precis.registry.trial import TestSet, behaviour_of, p95_latencies
    from precis.serving.summarizer import Summarizer

    gate, evaluation = params.gate, params.evaluation
    torch.set_num_threads(evaluation.threads)
    check_test_set(TEST)
    convention = RougeConvention(
        stemmer=evaluation.stemmer,
        summary_level=evaluation.summary_level,
        references=evaluation.references,
        tokenizer=evaluation.tokenizer,
    )
    test = TestSet(TEST, convention=convention, metric=gate.metric, processes=1)
    versions = [candidate] if champion is None else [candidate, champion]
    summarizers, sizes = [], []
    for one in versions:
        with unpacked(one.uri, digest=one.digest) as directory:
            summarizers.append(Summarizer.load(directory))
            sizes.append((directory / "model.safetensors").stat().st_size)
    latencies = p95_latencies(summarizers, test.documents(gate.latency_documents))
    behaviour = behaviour_of(
        summarizers[0],
        test.documents(gate.behaviour_documents),
        long_input_words=gate.long_input_words,
        long_input_seconds=gate.long_input_seconds,
    )
    evidence = [
        test.try_model(
            summarizer,
            f"version {one.number}",
            size_bytes=size,
            p95_seconds=latency,
            behaviour=behaviour if one is candidate else (),
        )
        for one, summarizer, size, latency in zip(versions, summarizers, sizes, latencies, strict=True)
    ]
    limits = gate.model_dump()
    for elsewhere in (
        "metric",
        "latency_documents",
        "behaviour_documents",
        "long_input_words",
        "long_input_seconds",
    ):
        del limits[elsewhere]
    return decide(
        evidence[0],
        evidence[1] if champion is not None else None,
        test.lead_rouge(evaluation.baseline_sentences),
        lead_name=f"lead-{evaluation.baseline_sentences}",
        thresholds=Thresholds(**limits),
    )


def check_test_set(test: Path, root: Path = Path()) -> None:
    """Refuse a test set that is not the one that DVC has on record for the evaluations.

    Raises:
        PrecisError: it changed since, or no evaluation is on record.
    """
    from precis.registry.dvc_lock import md5_of, read_lock

    expected = {
        stage.deps[test.as_posix()]
        for name, stage in read_lock(root).items()
        if name.startswith("evaluate") and test.as_posix() in stage.deps
    }
    if not (root / test).is_file():
        raise PrecisError(f"{test} not found: run `dvc repro` or `dvc checkout` first")
    if not expected:
        raise PrecisError(f"dvc.lock has no evaluation on {test}: run `dvc repro` first")
    found = md5_of(root / test)
    if expected != {found}:
        raise PrecisError(
            f"the test set changed: {test} has MD5 {found}, the evaluations in dvc.lock read "
            f"{', '.join(sorted(expected))}; run `dvc repro` (or `dvc checkout` to get the old one back)"
        )


def as_markdown(decision: Decision, number: int, champion: int | None) -> str:
    """The decision as a person reads it in a minute."""
    headline = (
        f"Version {number} becomes champion" if decision.promote else f"Version {number} is not promoted"
    )
    against = f"against version {champion}, the champion" if champion is not None else "as the first champion"
    rows = [
        f"| {check.name} | {'yes' if check.passed else '**no**'} | {check.found} |"
        for check in decision.checks
    ]
    notes = ["", *(f"- {note}" for note in decision.notes)] if decision.notes else []
    table = ["| check | passed | found |", "| --- | --- | --- |", *rows]
    return "\n".join(
        [f"# {headline}", "", f"Tried {against}. {_sentence(decision.reason)}", "", *table, *notes, ""]
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _write_decision(values: dict[str, Any], page: str | None = None) -> None:
    with atomic_path(DECISION / "decision.json") as temporary:
        temporary.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    with atomic_path(DECISION / "decision.md") as temporary:
        temporary.write_text(page or f"# No promotion\n\n{_sentence(values['reason'])}\n", encoding="utf-8")
