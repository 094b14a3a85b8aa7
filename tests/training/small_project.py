"""A folder in which the stage `train` can be run by itself, on the corpus of `small_training`."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import small_training
from ruamel.yaml import YAML

from precis.text.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
TRAIN = {
    "seed": 7, "threads": 1, "batch_size": 8, "max_epochs": 9, "patience": 100, "log_every_updates": 1,
    "learning_rate": 0.01, "warmup_updates": 5, "gradient_clip": 1.0, "sample_summaries": 1,
    "checkpoint_every_updates": 4, "checkpoint_every_minutes": 0.0,
}  # fmt: skip


def write_project(folder: Path, *, execution: dict[str, object] | None = None, **train: object) -> Path:
    """Write the stage's inputs and its params.yaml."""
    small_training.write_corpus(folder / "data/encoded")
    words = [f"word{number}" for number in range(small_training.VOCABULARY_SIZE - 4)]
    (folder / "data/vocabulary").mkdir()
    Vocabulary(words, [1] * len(words), words).save(folder / "data/vocabulary/shared.txt")
    (folder / "data/prepared").mkdir()
    rows = [{"id": str(n), "document": " ".join(words[n : n + 6]), "summary": words[n]} for n in range(9)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data/prepared/validation.parquet")
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["vocabulary"]["shared"] = True
    params["model"] |= {**small_training.OPTIONS, "dropout": 0.0}
    params["train"] |= {**TRAIN, **train}
    params["execution"] |= execution or {}
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    return folder


def start_stage(
    folder: Path, *before: str, model: str = "pointer", **environment: str
) -> subprocess.Popen[str]:
    """Start the stage; `before` is what it is started with instead of Python alone."""
    return subprocess.Popen(
        [*(before or [sys.executable]), "-m", "precis.stages.train", "--model", model],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
