"""A throw-away copy of the repository with a small corpus of its own, for tests that run the real pipeline."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
TRACKED = (
    "src", "flows", "recipes", "data/source", "data/.gitignore", "models", "reports", "dvc.yaml", "params.yaml",
    "constraints.txt", "pyproject.toml", "Makefile", "prefect.yaml", ".dvcignore", ".gitignore",
)  # fmt: skip

SMALL = {
    "vocabulary": {"target_size": 120, "source_size": 120, "min_count": 2},
    "model": {"embedding_size": 16, "hidden_size": 16, "decoder_size": 32, "dropout": 0.0},
    "train": {"max_epochs": 2, "threads": 1, "batch_size": 16, "learning_rate": 0.01, "warmup_updates": 10},
    "evaluation": {"resamples": 200, "processes": 1, "threads": 1},
    "corpus": {"source": "files", "max_rows": None},
}


# none of these may be found in what the pipeline writes
CANARIES = {
    "HF_TOKEN": "hf_CANARYofthehub0123456789",
    "AWS_SECRET_ACCESS_KEY": "CANARYofthestore0123456789",
    "DATABASE_URL": "postgresql://user:CANARYofthedatabase@127.0.0.1/db",  # pragma: allowlist secret
    "SLACK_WEBHOOK_URL": "https://hooks.example.invalid/CANARYofthehook",
    "SOME_PASSWORD": "CANARYofthepassword",
}
REMOTE = "https://user:CANARYoftheremote@example.invalid/tickets.git"  # pragma: allowlist secret


class Project:
    """A copy of the repository in a folder, under git and DVC.

    Args:
        folder: where.
        num_rows: of the corpus.
        stores: the environment that leads to the stores; None: those of the folder.
    """

    def __init__(self, folder: Path, *, num_rows: int = 300, stores: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.stores = stores or {}
        folder.mkdir(parents=True, exist_ok=True)
        for source in tracked_files():
            target = folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        write_tickets(folder / "data" / "source" / "tickets.jsonl", num_rows)
        self.set_params(SMALL)
        self.run("git", "init", "-q")
        self.run("git", "remote", "add", "origin", REMOTE)
        self.run("dvc", "init", "-q")
        self.run("git", "add", "-A")
        self.run("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "Start")

    def copy_to(self, folder: Path) -> Project:
        """The same project as it is now, in another folder, to break."""
        shutil.copytree(self.folder, folder, symlinks=True)
        twin = copy.copy(self)
        twin.folder = folder
        return twin

    @property
    def environment(self) -> dict[str, str]:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
            "DO_NOT_TRACK": "1",
            **CANARIES,
        }
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PYTHONDONTWRITEBYTECODE"):
            environment.pop(name, None)
        if self.stores:
            del environment["AWS_SECRET_ACCESS_KEY"]  # it would go before the file with the store's own
        return environment | self.stores

    def run(
        self, *command: str, check: bool = True, timeout: float = 500
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout
        )
        assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro`; give the stages that it ran."""
        done = self.run("dvc", "repro", *arguments)
        return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]

    def set_params(self, changes: dict[str, Any]) -> None:
        """Change values of params.yaml; an unknown section or key is written as it is."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        values = yaml.load(path.read_text())
        merge(values, changes)
        with path.open("w") as file:
            yaml.dump(values, file)

    def keep_only(self, model: str) -> None:
        """Take the other models out of dvc.yaml: a third of the work."""
        yaml, path = YAML(), self.folder / "dvc.yaml"
        graph = yaml.load(path.read_text())
        for stage in graph["stages"].values():
            if "matrix" in stage:
                others = [name for name in stage["matrix"]["model"] if name != model]
                stage["matrix"]["model"] = [model]
        for stage in graph["stages"].values():
            deps = stage.get("deps", [])
            stage["deps"] = [
                dep for dep in deps if "src" in dep or not any(f"/{name}" in f"{dep}/" for name in others)
            ]
        del graph["plots"]
        with path.open("w") as file:
            yaml.dump(graph, file)

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())


def tracked_files() -> list[Path]:
    """The files of the repository that the pipeline needs, without what it has made here."""
    found = []
    for name in TRACKED:
        path = ROOT / name
        if name in ("models", "reports"):
            found += path.rglob(".gitignore")
        else:
            found += [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    made = {"__pycache__", "precis.egg-info"}
    return [file for file in found if not made & set(file.parts)]


def merge(values: Any, changes: dict[str, Any]) -> None:
    for key, change in changes.items():
        if isinstance(change, dict) and isinstance(values.get(key), dict):
            merge(values[key], change)
        else:
            values[key] = change


def write_tickets(path: Path, num_rows: int, seed: int = 1) -> None:
    """Support tickets: who reports what of which order. Names and order numbers are in no vocabulary."""
    generator = random.Random(seed)
    faults = ["broken", "late", "lost", "wrong", "empty", "wet", "open", "torn"]
    things = ["lamp", "table", "phone", "chair", "book", "shirt", "bottle", "mirror"]
    openings = ["good morning", "hello", "dear team", "hi all", "to the support"]
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_rows):
            name = "".join(generator.choices("bcdfgklmnprstvz", k=1) + generator.choices("aeioukrlmnst", k=5))
            order = f"{generator.choice('ABCDEF')}{generator.randrange(10_000, 99_999)}"
            fault, thing = generator.choice(faults), generator.choice(things)
            filler = " ".join(generator.sample(things + faults, 5))
            document = (
                f"{generator.choice(openings)}, this is {name.title()}. My order {order} came today. "
                f"The {thing} is {fault}. I looked at {filler} before. Please write to {name}@example.com soon."
            )
            row = {
                "id": f"ticket-{number}",
                "document": document,
                "summary": f"{name.title()}: {thing} {fault}, order {order}",
            }
            file.write(json.dumps(row) + "\n")
