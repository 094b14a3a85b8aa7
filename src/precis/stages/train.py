"""Train one model; go on where an earlier attempt was cut off."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from precis.errors import PrecisError
from precis.evaluation.statistics import repeated_share
from precis.files import atomic_directory, remove_leftovers
from precis.manifest import write_manifest
from precis.params import Params, check_params, load_params
from precis.stages.entry import TRY_LATER_EXIT, run_stage

if TYPE_CHECKING:
    from precis.batches.data_module import EncodedDataModule
    from precis.models.base import SummarizationModel
    from precis.text.vocabulary import Vocabulary
    from precis.training.record import RunRecord
    from precis.training.run import Trained

log = logging.getLogger(__name__)

ENCODED = Path("data/encoded")
VOCABULARY = Path("data/vocabulary")
WORK = Path(".work/train")
MODELS = Path("models")
_QUIET = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
_RAY_PATIENCE = 60.0  # seconds in which the workers before, of which one was lost, must have ended


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, choices=["encoder_decoder", "attention", "pointer"])
    train_model(parser.parse_args().model, load_params())


def train_model(name: str, params: Params) -> None:
    """Read data/encoded and data/vocabulary, write models/NAME; here, or on a Ray cluster."""
    if params.execution.engine == "ray":
        _train_on_ray(name, params)
        return
    from precis.devices import check_devices, prepare_device
    from precis.training.placement import joined, started_by_torchrun
    from precis.training.workers import WorkerLostError, is_first

    for quiet in _QUIET:
        logging.getLogger(quiet).setLevel(logging.WARNING)
    params = _with_workers(params, started_by_torchrun())
    train = params.train
    slow = check_devices(train.devices, train.threads)
    prepare_device(train.threads)
    with joined(train.devices, train.num_nodes, train.strategy):
        if not is_first():
            logging.getLogger("precis").setLevel(logging.WARNING)
        elif slow is not None:
            log.warning("%s", slow)
        try:
            train_as_worker(name, params, train.strategy)
        except WorkerLostError as error:
            if is_first():
                raise
            raise SystemExit(TRY_LATER_EXIT) from error  # the first one tells why


def _with_workers(params: Params, started: tuple[int, int] | None) -> Params:
    """The parameters with as many workers as torchrun has started."""
    asked = params.train.devices, params.train.num_nodes
    if started is None or started == asked:
        return params
    if os.environ.get("RANK", "0") == "0":  # by torchrun; the workers have not joined yet
        log.info(
            "torchrun started %d workers on each of %d machines, and that is what counts: params.yaml says %d and %d",
            *started,
            *asked,
        )
    values = params.model_dump()
    values["train"] |= {"devices": started[0], "num_nodes": started[1]}
    return check_params(values)


def _train_on_ray(name: str, params: Params) -> None:
    from precis.training.ray_workers import run_on_ray

    run_on_ray(
        partial(_on_ray, name, params),
        address=params.execution.address,
        num_workers=params.train.devices * params.train.num_nodes,
        cpus_per_worker=params.execution.cpus_per_worker,
        directory=WORK / name / "ray",
    )


def _on_ray(name: str, params: Params) -> None:
    from precis.devices import prepare_device

    for quiet in _QUIET:
        logging.getLogger(quiet).setLevel(logging.WARNING)
    prepare_device(params.train.threads)
    train_as_worker(name, params, "ray")


def train_as_worker(name: str, params: Params, strategy: str) -> None:
    """Take part in a training; the first of its workers writes models/NAME."""
    import pytorch_lightning as pl

    from precis.batches.data_module import EncodedDataModule
    from precis.batches.encoded import EncodedCorpus
    from precis.models.build import build_model, options_of
    from precis.models.pretrained import initialise_embeddings
    from precis.text.vocabulary import Vocabulary
    from precis.training.phases import remove_checkpoints, train_in_phases
    from precis.training.progress import write_history
    from precis.training.tracking import RUN_FILE
    from precis.training.workers import from_first, is_first, telling_of_lost_workers

    pl.seed_everything(params.train.seed, verbose=False)

    vocabulary_files = sorted(VOCABULARY.glob("*"))
    vocabularies = [
        Vocabulary.load(_vocabulary_file(side, params.vocabulary.shared)) for side in ("source", "target")
    ]
    source_vocabulary, target_vocabulary = vocabularies
    data = EncodedDataModule(
        ENCODED,
        target_vocabulary_size=len(target_vocabulary),
        batch_size=params.train.batch_size,
        seed=params.train.seed,
    )
    pretraining = None
    if len(EncodedCorpus(ENCODED / "pretraining.arrow")) and params.pretraining.epochs:
        pretraining = EncodedDataModule(
            ENCODED,
            target_vocabulary_size=len(target_vocabulary),
            batch_size=params.train.batch_size,
            seed=params.train.seed,
            training="pretraining",
        )
    model = build_model(
        name,
        source_vocabulary_size=len(source_vocabulary),
        target_vocabulary_size=len(target_vocabulary),
        shared_vocabulary=params.vocabulary.shared,
        **{key: value for key, value in params.model.model_dump().items() if key in options_of(name)},
    )
    pretrained = params.model.pretrained_embeddings
    if pretrained is not None:
        words = [[vocabulary.word(id_) for id_ in range(len(vocabulary))] for vocabulary in vocabularies]
        initialise_embeddings(model, Path(pretrained), *words)
    text_settings = {
        "lowercase": params.text.lowercase,
        "source_max_length": params.encode.source_max_length,
        "shared": params.vocabulary.shared,
    }
    samples = _Samples(
        model,
        (source_vocabulary, target_vocabulary),
        text_settings,
        max_length=params.encode.target_max_length,
        num_shown=params.train.sample_summaries,
    )
    patience = _RAY_PATIENCE if strategy == "ray" else 0.0
    with telling_of_lost_workers(), _only_one(WORK / name, patience) if is_first() else nullcontext():
        training: Callable[..., Trained] = partial(
            train_in_phases,
            model,
            data,
            name=name,
            summarize=samples.pairs,
            repetition=samples.repetition,
            pretraining=pretraining,
            pretraining_epochs=params.pretraining.epochs,
            **{**_trainer_settings(params), "strategy": strategy},
        )
        if not is_first():
            training(record=None, directory=from_first(Path))
            return
        remove_leftovers(MODELS / name)
        record = _record(name, params, data, vocabulary_files)
        log.info(
            "%s: %s parameters, %s pairs, %s + %s words",
            name,
            f"{sum(parameter.numel() for parameter in model.parameters()):,}",
            f"{len(data.training):,}",
            f"{len(source_vocabulary):,}",
            f"{len(target_vocabulary):,}",
        )
        status = "KILLED"
        record.start()
        try:
            trained = training(record=record, directory=from_first(lambda: record.directory))
            history = record.directory / "history.csv"
            write_history(record.spool, history, data.updates_per_epoch)
            with atomic_directory(MODELS / name) as published:
                for path in [*trained.directory.iterdir(), *vocabulary_files, history]:
                    shutil.copy(path, published)
                (published / "text.json").write_text(_json(text_settings), encoding="utf-8")
                run = {"experiment": record.experiment, "fingerprint": record.fingerprint, "model": name}
                (published / RUN_FILE).write_text(_json(run), encoding="utf-8")
                write_manifest(published)
            record.log_summary(
                {
                    "best_validation_loss": trained.best_loss,
                    "best_update": trained.best_update,
                    "updates": trained.num_updates,
                    "minutes": trained.seconds / 60,
                }
            )
            record.log_directory(MODELS / name, "model")
            record.log_file(Path("params.yaml"))
            status = "FINISHED"
        except (PrecisError, OSError):
            status = "FAILED"
            raise
        finally:
            record.end(status)
        log.info(
            "%s: best validation loss %.4f after update %d; %.1f minutes",
            name,
            trained.best_loss,
            trained.best_update,
            trained.seconds / 60,
        )
        if record.is_delivered:
            shutil.rmtree(record.directory)
        else:  # what the store is still to be told stays
            remove_checkpoints(record.directory)


def _record(name: str, params: Params, data: EncodedDataModule, vocabulary_files: list[Path]) -> RunRecord:
    """The run's record, in the folder of what the model comes from: with other parameters it is another one."""
    from precis.training.checkpoints import training_fingerprint
    from precis.training.lineage import display_tags, lineage_tags
    from precis.training.record import RunRecord
    from precis.training.tracking import DatasetRecord, content_digest, flatten, git_tags

    sections = {
        section: value
        for section, value in params.model_dump(mode="json").items()
        if section in ("pretraining", "train", "model", "vocabulary", "encode", "text")
    }
    splits = {
        "training": (ENCODED / "train.arrow", len(data.training)),
        "validation": (ENCODED / "validation.arrow", len(data.validation)),
    }
    files = [*(path for path, _ in splits.values()), *vocabulary_files]
    if params.pretraining.epochs:
        files.append(ENCODED / "pretraining.arrow")
    if params.model.pretrained_embeddings is not None:
        files.append(Path(params.model.pretrained_embeddings))
    fingerprint = training_fingerprint(json.dumps([name, sections], sort_keys=True), files)
    digests = {path.as_posix(): content_digest(path) for path in files}
    # the runs of one pipeline: trained with the same data and parameters
    group = hashlib.sha256(json.dumps([digests, sections], sort_keys=True).encode()).hexdigest()[:12]
    directory = WORK / name / fingerprint[:16]
    directory.mkdir(parents=True, exist_ok=True)
    return RunRecord(
        directory,
        experiment=params.tracking.experiment,
        name=f"{name} {group[:6]}",
        fingerprint=fingerprint,
        params={"name": name, **flatten(params.model_dump(mode="json"))},
        tags={
            "precis.model": name,
            "precis.pipeline": group,
            **git_tags(),
            **lineage_tags(),
            **display_tags(name, group[:6]),
        },
        datasets=[
            DatasetRecord(context, path.as_posix(), digests[path.as_posix()], num_rows)
            for context, (path, num_rows) in splits.items()
        ],
    )


class _Samples:
    """Greedy summaries of the first validation documents, to look at and to count repetitions in."""

    NUM_COUNTED = 200

    def __init__(
        self,
        model: SummarizationModel,
        vocabularies: tuple[Vocabulary, Vocabulary],
        text_settings: dict[str, Any],
        *,
        max_length: int,
        num_shown: int,
    ) -> None:
        from precis.serving.summarizer import Summarizer

        self._summarizer = Summarizer(model, *vocabularies, **text_settings, decoding=_greedy(max_length))
        self._examples = _validation_examples(max(self.NUM_COUNTED, num_shown))
        self._num_shown = num_shown

    def pairs(self) -> list[tuple[str, str]]:
        """References with their summaries."""
        shown = self._examples[: self._num_shown]
        summaries = self._summarizer.summarize([document for document, _ in shown])
        return [(reference, summary.text) for (_, reference), summary in zip(shown, summaries, strict=True)]

    def repetition(self) -> float:
        """The share of three-word phrases that repeat an earlier one of their summary."""
        documents = [document for document, _ in self._examples[: self.NUM_COUNTED]]
        return repeated_share([summary.words for summary in self._summarizer.summarize(documents)], size=3)


def _trainer_settings(params: Params) -> dict[str, Any]:
    settings = params.train.model_dump()
    for elsewhere in ("threads", "batch_size", "sample_summaries"):
        del settings[elsewhere]
    return settings


def _greedy(max_length: int) -> dict[str, Any]:
    """How the samples in the log are decoded: their wording is no result, and no parameter of it is one."""
    return {
        "beam_size": 1,
        "min_length": 1,
        "max_length": max_length,
        "length_penalty": "none",
        "length_alpha": 0.0,
        "coverage_penalty": "none",
        "coverage_beta": 0.0,
        "block_ngrams": 0,
        "block_exceptions": [],
        "banned_words": [],
        "frequent_words": 0,
        "shortlist": False,
        "int8": False,
    }


def _vocabulary_file(side: str, shared: bool) -> Path:
    return VOCABULARY / ("shared.txt" if shared else f"{side}.txt")


def _validation_examples(number: int) -> list[tuple[str, str]]:
    """Documents and references of the first validation rows."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile("data/prepared/validation.parquet")
    rows = next(file.iter_batches(batch_size=number, columns=["document", "summary"])).to_pylist()
    return [(row["document"], row["summary"]) for row in rows]


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@contextmanager
def _only_one(directory: Path, patience: float) -> Iterator[None]:
    """Hold the model's lock: two trainings of it at once would write the same checkpoints."""
    directory.mkdir(parents=True, exist_ok=True)
    last = time.monotonic() + patience
    with (directory / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= last:
                    raise PrecisError(
                        f"{directory} is in use by another training: wait for it or stop it"
                    ) from error
            time.sleep(0.5)
        yield


if __name__ == "__main__":
    # under its name: what Ray's workers are sent is looked up there, and __main__ is another module on their side
    run_stage(importlib.import_module("precis.stages.train").main)
