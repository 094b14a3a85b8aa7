"""`precis init FILE`: look at a corpus, and propose the parameters for it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from precis.errors import PrecisError

if TYPE_CHECKING:
    from precis.corpora.firewall import Findings
    from precis.corpora.proposal import Proposal

_ROWS = 20_000  # looked at; the checks see all


def init(
    file: Annotated[Path, typer.Argument(help="JSON Lines, CSV, TSV or Parquet; or a folder with splits.")],
    write: Annotated[bool, typer.Option(help="Write the proposal to params.yaml.")] = True,
) -> None:
    """Guess the columns of a corpus, show lengths and checks, and write a `corpus` section with what suits it."""
    from precis.corpora.files import Limits, find_files, first_rows
    from precis.corpora.overrides import load_yaml, merge, plain, save_yaml
    from precis.corpora.proposal import propose, raised_limits
    from precis.params import PARAMS_FILE, check_params

    values = load_yaml(PARAMS_FILE)
    params = check_params(plain(values))
    files = params.corpus.files
    limits = Limits(files.max_row_bytes, files.max_decompressed_bytes, files.max_decompression_ratio)
    rows = first_rows(file, _ROWS, limits)
    if not rows:
        raise PrecisError(f"{file}: none of its first rows can be read")
    proposal = propose(rows)
    columns = proposal.columns
    print(f"{file}: looked at {len(rows):,} rows")
    for ours, theirs in columns.names().items():
        example = " ".join(str(rows[0].get(theirs)).split())
        print(f"  {ours:<10} `{theirs}`, such as: {example[:70]}{'…' if len(example) > 70 else ''}")
    print("\nTokens               median    95 %    99 %  longest")
    for name, lengths in (("documents", proposal.document), ("summaries", proposal.summary)):
        print(f"  {name:<16} {lengths.median:>9} {lengths.p95:>7} {lengths.p99:>7} {lengths.longest:>8}")
    findings = _show_checks(file, params, columns, limits)
    raised = raised_limits(findings, params.prepare.checks)
    training_rows = findings.kept["train"]
    epochs = proposal.epochs(training_rows, params.train.max_epochs)
    nullable = ("id", "references", "group", "time")
    changes: dict[str, Any] = {
        "corpus": {
            "source": "files",
            "max_rows": None,
            "columns": dict.fromkeys(nullable) | columns.names(),
            "split": {"by": "group"},
            "files": {"path": str(file), "train": None, "validation": None, "test": None},
        },
        "vocabulary": {"source_size": proposal.vocabulary_size, "target_size": proposal.vocabulary_size},
        "encode": {
            "source_max_length": proposal.source_max_length,
            "target_max_length": proposal.target_max_length,
        },
        "train": {"max_epochs": epochs},
        "decoding": {"max_length": proposal.target_max_length},
    }
    if raised:
        changes["prepare"] = {"checks": {check: {"max_share": share} for check, share in raised.items()}}
    said = merge(values, changes)
    check_params(plain(values), f"params.yaml for {file}")
    print("\nProposed for params.yaml:")
    print("\n".join(f"  {line}" for line in said) or "  nothing: it has these values already")
    print(f"\n{time_explained(proposal, training_rows, epochs, findings.read.total())}")
    for check in raised:
        given = any(one.split for one in find_files(file, {}))
        print(f"\n{_leak_explained(check, findings, given=given, group=columns.group)}")
    if write:
        save_yaml(values, PARAMS_FILE)
        print("\nWritten. Now run `dvc repro`.")


def time_explained(proposal: Proposal, rows: int, epochs: int, all_rows: int) -> str:
    """How long training takes, and what to do where that is longer than one may like.

    Args:
        proposal: the lengths.
        rows: of training.
        epochs: over these.
        all_rows: of all splits together, as corpus.max_rows counts them.
    """
    from precis.corpora.proposal import MINUTES

    minutes = proposal.minutes(rows, epochs)
    said = (
        f"Training: {rows:,} rows, {epochs} epoch{'s' * (epochs > 1)}; "
        f"{f'about {minutes:,.0f} minutes' if minutes >= 1.5 else 'a minute or less'} for each model "
        "on one core of a laptop."
    )
    if minutes > MINUTES:
        said += (
            f"\nThat is for a single epoch. corpus.max_rows: {int(all_rows * MINUTES / minutes):,} "
            f"takes about {MINUTES} minutes."
        )
    return said


def _leak_explained(check: str, findings: Findings, *, given: bool, group: str | None) -> str:
    """What is done about splits that share documents, and for whom that is wrong.

    Args:
        check: leakage or near_leakage.
        findings: what the checks found.
        given: the corpus came in splits; else precis splits it.
        group: the column by which it does so.
    """
    held_out, other, number, share = findings.worst_leak(check)
    what = "are in" if check == "leakage" else "are nearly the same as one in"
    said = (
        f"{'The given splits overlap' if given else 'Documents are much alike'}: {number:,} of the "
        f"{findings.read[held_out]:,} documents of {held_out} ({share:.1%}) {what} {other}, too.\n"
        f"prepare.checks.{check}.max_share is raised so that `prepare` goes on: it sets the copies in {other} aside\n"
        f"and leaves {held_out} whole, so that no model learns from what it is scored on."
    )
    if given:
        said += (
            " If the files were not meant\n"
            "to overlap, look at how they were split; or give precis one file, which it splits without overlap."
        )
    elif group is None:
        said += (
            " If a column says which\n"
            "rows belong together (a thread, a customer), name it in corpus.columns.group: one split has them all."
        )
    return said


def _show_checks(file: Path, params: Any, columns: Any, limits: Any) -> Findings:
    from precis.corpora.checks import CHECKS
    from precis.corpora.files import FilesReader, Retries
    from precis.corpora.splits import Shares
    from precis.execution.local import LocalEngine
    from precis.stages.download import download
    from precis.stages.prepare import firewall_of

    with tempfile.TemporaryDirectory() as folder:
        anywhere = {"train": None, "validation": None, "test": None}
        reader = FilesReader(str(file), anywhere, columns, limits, Retries(1, 0.0), Path(folder, "fetched"))
        shares = Shares(params.corpus.split.validation_share, params.corpus.split.test_share)
        download(reader.read(), Path(folder, "raw"), shares=shares, by_time=False, max_rows=None)
        Path(folder, "prepared").mkdir()
        findings = firewall_of(params.prepare, LocalEngine()).sift(
            Path(folder, "raw"), Path(folder, "prepared")
        )
    print(f"\nChecks of {findings.read.total():,} rows, {findings.kept.total():,} of them kept:")
    shown = False
    for check in CHECKS:
        share, most = findings.share(check), getattr(params.prepare.checks, check).max_share
        for reason in CHECKS[check]:
            number = sum(findings.set_aside[s, reason] + findings.reported[s, reason] for s in findings.read)
            if number:
                shown = True
                example = findings.examples[reason][0]
                too_many = f"  TOO MANY: at most {most:.1%}" if share > most else ""
                print(f"  {reason:<24}{number:>7}  {example['id']}: {example['detail'][:60]}{too_many}")
    if not shown:
        print("  nothing wrong")
    return findings
