"""A copy of the repository with a small corpus, in which every stage runs in seconds."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from precis.corpora.overrides import load_yaml, merge, save_yaml
from precis.errors import PrecisError

NUM_ROWS = 240
# everything else is as the user has it
SMALL: dict[str, Any] = {
    "corpus": {
        "source": "files",
        "max_rows": None,
        "columns": {
            "id": "id", "document": "document", "summary": "summary", "references": None, "group": None,
            "time": None,
        },
        "split": {"by": "group", "validation_share": 0.1, "test_share": 0.1},
        "files": {"path": "data/source", "train": None, "validation": None, "test": None},
    },
    "vocabulary": {"source_size": 120, "target_size": 120, "min_count": 2},
    "model": {"embedding_size": 16, "hidden_size": 16, "decoder_size": 32, "pretrained_embeddings": None},
    "train": {"max_epochs": 1, "batch_size": 16},
    "evaluation": {"resamples": 100, "processes": 1},
}  # fmt: skip


def make_small_project(root: Path, target: Path) -> None:
    """Copy what git knows or would add of `root` to `target`, with a small corpus and small models."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        raise PrecisError(f"{root} is not under git, which tells what to copy: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file() and name != "dvc.lock" and not name.startswith(".dvc/"):
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, copy)
    params = load_yaml(target / "params.yaml")
    merge(params, SMALL)
    save_yaml(params, target / "params.yaml")
    _write_corpus(target / "data" / "source" / "orders.jsonl")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"],
        cwd=target,
        check=True,
        capture_output=True,
    )


def _write_corpus(path: Path) -> None:
    """Orders with names and numbers that no vocabulary has."""
    chosen = random.Random(1)  # noqa: S311  # no secret
    things = ["lamp", "table", "phone", "chair", "book", "shirt", "bottle", "mirror"]
    faults = ["broken", "late", "lost", "wrong", "empty", "wet", "open", "torn"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number in range(NUM_ROWS):
            name = "".join(
                chosen.choices("bcdfgklmnprstvz", k=1) + chosen.choices("aeioukrlmnst", k=6)
            ).title()
            thing, fault, order = (
                chosen.choice(things),
                chosen.choice(faults),
                f"{chosen.choice('ABCD')}{chosen.randrange(10**5)}",
            )
            seen = " ".join(chosen.sample(things + faults, 6))
            row = {
                "id": f"order-{number}",
                "document": f"This is {name}. The {thing} of order {order} is {fault}. I looked at {seen} before.",
                "summary": f"{name}: {thing} {fault}, order {order}",
            }
            file.write(json.dumps(row) + "\n")
