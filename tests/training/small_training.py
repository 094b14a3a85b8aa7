"""A training of seconds, as a process that a test can stop: `python small_training.py FOLDER [SETTINGS OF run]`."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytorch_lightning as pl
import torch

from precis.batches.data_module import EncodedDataModule
from precis.batches.encoded import SCHEMA, write_encoded
from precis.models.build import build_model, options_of
from precis.stages.entry import run_stage
from precis.training.phases import train_in_phases
from precis.training.placement import joined
from precis.training.record import RunRecord
from precis.training.run import Trained, train, validation_plan
from precis.training.workers import from_first, is_first, telling_of_lost_workers

VOCABULARY_SIZE = 20
NUM_TRAINING_ROWS = 90  # 12 updates of 8 rows an epoch
OPTIONS = {
    "cell": "lstm",
    "layers": 1,
    "bidirectional": True,
    "embedding_size": 8,
    "hidden_size": 12,
    "decoder_size": 12,
    "tie_embeddings": True,
    "readout": "tanh",
    "dropout": 0.2,
    "word_dropout": 0.0,
    "label_smoothing": 0.0,
    "attention": "general",
    "input_feeding": False,
    "attend_with_cell": False,
    "intra_attention": False,
    "coverage": False,
    "coverage_weight": 0.0,
    "generation": "mixture",
    "pointing_weight": 0.0,
}


def write_corpus(directory: Path) -> None:
    """Targets that begin as their sources do, with unknown words among them; those of pre-training end so."""
    for split, num_rows, seed in (
        ("train", NUM_TRAINING_ROWS, 1),
        ("validation", 20, 2),
        ("pretraining", 50, 3),
    ):
        generator = np.random.default_rng(seed)
        rows = []
        for number in range(num_rows):
            length = int(generator.integers(3, 12))
            words = generator.integers(4, VOCABULARY_SIZE + 3, size=length)
            oovs = sorted({int(word) for word in words if word >= VOCABULARY_SIZE})
            extended = [VOCABULARY_SIZE + oovs.index(word) if word in oovs else int(word) for word in words]
            rows.append(
                {
                    "id": f"{split}/{number}",
                    "source_ids": [word if word < VOCABULARY_SIZE else 1 for word in extended],
                    "source_extended_ids": extended,
                    "source_oovs": [f"word{oov}" for oov in oovs],
                    "target_ids": extended[-3:] if split == "pretraining" else extended[:3],
                }
            )
        write_encoded([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)], directory / f"{split}.arrow")


def run(
    directory: Path,
    *,
    model_name: str = "pointer",
    work: str = "work",
    coverage: bool = False,
    pretraining: bool = False,
    dropout: float | None = None,
    **settings: object,
) -> Trained:
    """Train, or go on training, in `directory`; with `coverage` there is a phase at the end that has it, with
    `pretraining` one at the beginning.

    As one of several workers, if the process is one.
    """
    torch.set_num_threads(1)
    pl.seed_everything(7, verbose=False)
    corpus = directory / "encoded"
    from_first(lambda: corpus.exists() or write_corpus(corpus))
    how = {"target_vocabulary_size": VOCABULARY_SIZE, "batch_size": 8, "seed": 7}
    data = EncodedDataModule(corpus, **how)
    changed: dict[str, object] = {"coverage": coverage, "coverage_weight": float(coverage)}
    if dropout is not None:
        changed["dropout"] = dropout
    model = build_model(
        model_name,
        source_vocabulary_size=VOCABULARY_SIZE,
        target_vocabulary_size=VOCABULARY_SIZE,
        shared_vocabulary=True,
        **{name: value for name, value in {**OPTIONS, **changed}.items() if name in options_of(model_name)},
    )
    work = directory / work
    work.mkdir(parents=True, exist_ok=True)
    record = None
    if is_first():
        record = RunRecord(work, "test", "pointer", "0" * 64, params={}, tags={}, datasets=[])
    defaults = {
        "seed": 7,
        "max_epochs": 5,
        "validations_per_epoch": 2,
        "max_minutes": 0.0,
        "precision": "full",
        "optimizer": "adam",
        "learning_rate": 0.01,
        "warmup_updates": 5,
        "final_learning_rate": 0.1,
        "weight_decay": 0.0,
        "consistency_weight": 0.0,
        "gradient_clip": 1.0,
        "patience": 10,
        "log_every_updates": 4,
        "checkpoint_every_updates": 3,
        "checkpoint_every_minutes": 0.0,
        "max_skipped_batches": 0,
    }
    values = {**defaults, **settings}
    if record is not None:
        record.start()
    status = "KILLED"
    try:
        if coverage or pretraining:
            trained = train_in_phases(
                model, data, record, work, name="pointer", summarize=lambda: [],
                # all that the second phase needs to be tried and kept
                repetition=lambda: 0.1 if model.options.get("coverage_on") else 0.5,
                coverage_updates=40, coverage_learning_rate=0.5, coverage_speedup=20.0, coverage_max_loss=1.0,
                coverage_min_repetition=0.01,
                pretraining=EncodedDataModule(corpus, training="pretraining", **how) if pretraining else None,
                pretraining_epochs=2, **values,
            )  # fmt: skip
        else:
            epochs = values.pop("max_epochs"), values.pop("validations_per_epoch")
            num_updates, interval = validation_plan(data.updates_per_epoch, *epochs)
            trained = train(
                model, data, record, work, name=model_name, summarize=lambda: [], num_updates=num_updates,
                validation_interval=interval, **values,
            )  # fmt: skip
        status = "FINISHED"
    finally:
        if record is not None:
            record.end(status)
    return trained


def main() -> None:
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings = json.loads(sys.argv[2]) if sys.argv[2:] else {}
    with joined(settings.get("devices", 1), 1, "auto"), telling_of_lost_workers():
        run(Path(sys.argv[1]), **settings)


if __name__ == "__main__":
    run_stage(main)
