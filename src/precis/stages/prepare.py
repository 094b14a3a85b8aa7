"""Set bad rows, duplicates and leaks aside, and refuse a corpus that has too many of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from precis.corpora.article import SPLITS
from precis.corpora.checks import CHECKS, TextLimits
from precis.corpora.firewall import Findings, Firewall
from precis.corpora.near_duplicates import NearDuplicateSearch
from precis.errors import PrecisError
from precis.execution.engine import Engine
from precis.execution.open_engine import open_engine
from precis.files import atomic_directory, atomic_path, read_ordinary, remove_leftovers
from precis.manifest import file_digest
from precis.params import PrepareParams, load_params
from precis.stages.entry import run_stage

log = logging.getLogger(__name__)

RAW, PREPARED, REPORT = Path("data/raw"), Path("data/prepared"), Path("reports/data_checks.json")
CHECKSUMS = "checksums.json"
_LARGEST_CHECKSUMS = 10_000_000  # bytes


def prepare(
    raw: Path, prepared: Path, report: Path, *, firewall: Firewall, max_shares: Mapping[str, float]
) -> Findings:
    """Write the rows that pass and those set aside; the report is written even when the corpus is refused.

    Args:
        raw: the folder of the splits as they were found.
        prepared: the folder to write: the splits, quarantine.parquet and clean_test_ids.txt.
        report: what the checks found, as JSON.
        firewall: the checks.
        max_shares: for each check the share of rows that may fail it.

    Raises:
        PrecisError: a share is exceeded, or a split has no rows left; the message names every such check.
    """
    for split in SPLITS:
        if not (raw / f"{split}.parquet").is_file():
            raise PrecisError(f"{raw / split}.parquet not found: run `dvc repro download` first")
    remove_leftovers(prepared)
    remove_leftovers(report)
    with atomic_directory(prepared) as folder:
        findings = firewall.sift(raw, folder)
        assert findings.kept.total() + findings.set_aside.total() == findings.read.total()
        clean = "".join(f"{row_id}\n" for row_id in findings.clean_test_ids)
        (folder / "clean_test_ids.txt").write_text(clean, encoding="utf-8", newline="\n")
        with atomic_path(report) as temporary:
            temporary.write_text(
                json.dumps(_report(findings, firewall, max_shares), indent=2, ensure_ascii=False) + "\n",
                encoding="utf-8",
            )
        _refuse(findings, max_shares, report)
    for split in SPLITS:
        aside = findings.read[split] - findings.kept[split]
        log.info(
            "%s: %d rows read, %d set aside, %d kept",
            split,
            findings.read[split],
            aside,
            findings.kept[split],
        )
    return findings


def _refuse(findings: Findings, max_shares: Mapping[str, float], report: Path) -> None:
    problems = []
    for check in CHECKS:
        share = findings.share(check)
        if share > max_shares[check]:
            reasons = [reason for reason in CHECKS[check] if findings.examples.get(reason)]
            example = findings.examples[reasons[0]][0] if reasons else {"id": "?", "detail": ""}
            problems.append(
                f"  {check}: {share:.2%} of the rows, at most {max_shares[check]:.2%} may "
                f"(prepare.checks.{check}.max_share); such as {example['id']}: {example['detail']}"
            )
    for split in SPLITS:
        if findings.kept[split] == 0:
            problems.append(f"  {split}: none of its {findings.read[split]:,} rows is left")
    if problems:
        what = f"Look at {report}, mend the corpus, or raise the share and say why"
        raise PrecisError("\n".join(["the corpus cannot be trusted:", *problems, what]))


def _report(findings: Findings, firewall: Firewall, max_shares: Mapping[str, float]) -> dict[str, object]:
    return {
        "rows": {
            split: {
                "read": findings.read[split],
                "kept": findings.kept[split],
                "set_aside": findings.read[split] - findings.kept[split],
            }
            for split in SPLITS
        },
        "duplicate_documents": dict(sorted(findings.duplicates.items())),
        "copies_across_splits": findings.copies,
        "near_copies_across_splits": findings.near_copies,
        "clean_test_rows": len(findings.clean_test_ids),
        "checks": {check: _check(check, findings, firewall, max_shares) for check in CHECKS},
        "lengths": {
            split: {
                "document": _lengths(findings.document_words[split]),
                "summary": _lengths(findings.summary_words[split]),
            }
            for split in SPLITS
        },
    }


def _check(
    check: str, findings: Findings, firewall: Firewall, max_shares: Mapping[str, float]
) -> dict[str, object]:
    return {
        "action": firewall.actions[check],
        "rows": findings.count(check),
        "share": round(findings.share(check), 6),
        "max_share": max_shares[check],
        "reasons": {
            reason: {
                "set_aside": {split: findings.set_aside[split, reason] for split in SPLITS},
                "reported": {split: findings.reported[split, reason] for split in SPLITS},
                "examples": findings.examples.get(reason, []),
            }
            for reason in CHECKS[check]
            if any(findings.set_aside[s, reason] + findings.reported[s, reason] for s in SPLITS)
        },
    }


def _lengths(words: object) -> dict[str, object]:
    """In words; the histogram's bins are as wide as a fortieth of what 99 texts in 100 have."""
    lengths = np.asarray(words, dtype=np.int64)
    if not len(lengths):
        return {"mean": 0.0, "median": 0, "p95": 0, "max": 0, "histogram": {"bin_words": 1, "texts": []}}
    bin_words = max(1, int(np.ceil(np.percentile(lengths, 99) / 40)))
    counts = np.bincount(np.minimum(lengths // bin_words, 40))
    return {
        "mean": round(float(lengths.mean()), 2),
        "median": int(np.percentile(lengths, 50)),
        "p95": int(np.percentile(lengths, 95)),
        "max": int(lengths.max()),
        "histogram": {"bin_words": bin_words, "texts": counts.tolist()},
    }


def check_raw(raw: Path) -> None:
    """Compare the splits with the checksums that `download` left beside them.

    Raises:
        PrecisError: a file is missing or was changed since; the message names every such file.
    """
    path = raw / CHECKSUMS
    again = "run `dvc repro --force --single-item download` to fetch the corpus again"
    try:
        sums = json.loads(read_ordinary(path, _LARGEST_CHECKSUMS).decode("utf-8"))
        expected = {split: str(sums[split]["sha256"]) for split in SPLITS}
    except FileNotFoundError as error:
        raise PrecisError(f"{path} not found: {again}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PrecisError(f"{path} is damaged ({error}): {again}") from error
    problems = []
    for split, digest in expected.items():
        file = raw / f"{split}.parquet"
        found = file_digest(file) if file.is_file() else None
        if found != digest:
            what = "missing" if found is None else f"SHA-256 is {found}, expected {digest}"
            problems.append(f"  {file.name}: {what}")
    if problems:
        raise PrecisError("\n".join([f"{raw} is not what was downloaded; {again}:", *problems]))


def firewall_of(params: PrepareParams, engine: Engine) -> Firewall:
    """The checks that params.yaml asks for."""
    near = params.near_duplicates
    search = NearDuplicateSearch(
        near.shingle_words, near.min_similarity, near.permutations, near.bands, near.seed
    )
    return Firewall(
        actions={name: check["action"] for name, check in params.checks.model_dump().items()},
        limits=TextLimits(
            params.max_document_characters, params.max_line_characters, params.max_token_characters
        ),
        max_same_summary=params.max_same_summary,
        search=search if near.search else None,
        num_examples=params.examples,
        engine=engine,
    )


def main() -> None:
    """Run the stage with params.yaml."""
    params = load_params()
    check_raw(RAW)
    checks = params.prepare.checks.model_dump()
    max_shares = {name: check["max_share"] for name, check in checks.items()}
    with open_engine(**params.execution.model_dump()) as engine:
        prepare(RAW, PREPARED, REPORT, firewall=firewall_of(params.prepare, engine), max_shares=max_shares)


if __name__ == "__main__":
    run_stage(main)
