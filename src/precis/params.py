"""The typed form of params.yaml: one section for each part, no default anywhere.

A section object stops at `stages`: below it, functions take plain keyword arguments.
"""

from __future__ import annotations

import reprlib
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from precis.errors import PrecisError

PARAMS_FILE = Path("params.yaml")


class Section(BaseModel):
    """A group of parameters: every key is required, unknown keys are refused, types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CorpusColumns(Section):
    """Which column of the corpus holds what; null where there is none."""

    id: str | None
    document: str
    summary: str
    references: str | None
    group: str | None
    time: str | None


class CorpusSplit(Section):
    """How a corpus that comes in one piece is split."""

    by: Literal["group", "time"]
    validation_share: float = Field(ge=0, lt=1)
    test_share: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _some_is_left(self) -> CorpusSplit:
        if self.validation_share + self.test_share >= 1:
            raise ValueError("validation_share and test_share leave nothing to train on")
        return self


class CorpusDocstrings(Section):
    """Which docstrings are pairs; lengths in words between white space."""

    min_summary_words: int = Field(ge=1)
    max_summary_words: int = Field(ge=1)
    min_document_words: int = Field(ge=1)
    min_overlap: float = Field(ge=0, le=1)


class CorpusFiles(Section):
    """Where the files of a corpus are, and what no honest one exceeds."""

    path: str = Field(min_length=1)
    train: str | None
    validation: str | None
    test: str | None
    max_row_bytes: int = Field(ge=1_000)
    max_decompressed_bytes: int = Field(ge=1)
    max_decompression_ratio: int = Field(ge=1)

    @model_validator(mode="after")
    def _path_has_no_secret(self) -> CorpusFiles:
        # parameters are written into dvc.lock, MLflow and reports
        if "://" in self.path and has_secret(self.path):
            raise ValueError(
                "path has a password or a key in it, which would be recorded with every run. Put it where fsspec looks "
                "for it: environment variables such as AWS_SECRET_ACCESS_KEY, or ~/.config/fsspec"
            )
        return self


class CorpusHubSplits(Section):
    """What the hub calls the splits."""

    train: str | None
    validation: str | None
    test: str | None


class CorpusHub(Section):
    """A dataset of the Hugging Face hub, or a folder in the hub's layout."""

    name: str | None
    config: str | None
    revision: str | None
    splits: CorpusHubSplits


class CorpusRetries(Section):
    """What happens when the network fails."""

    attempts: int = Field(ge=1)
    wait_seconds: float = Field(ge=0)


class CorpusShuffle(Section):
    """How the rows of a stream are mixed."""

    buffer_rows: int = Field(ge=1)
    seed: int = Field(ge=0)


class CorpusParams(Section):
    """Where the rows come from (the stage `download`)."""

    source: Literal["docstrings", "files", "hub"]
    max_rows: int | None = Field(ge=1)
    streaming: bool
    shuffle: CorpusShuffle
    columns: CorpusColumns
    split: CorpusSplit
    docstrings: CorpusDocstrings
    files: CorpusFiles
    hub: CorpusHub
    retries: CorpusRetries

    @model_validator(mode="after")
    def _time_is_there(self) -> CorpusParams:
        if self.split.by == "time" and self.columns.time is None:
            raise ValueError("split.by is time, so columns.time must name a column")
        if self.source == "hub" and self.hub.name is None:
            raise ValueError("source is hub, so hub.name must name a dataset")
        if self.streaming and self.source == "docstrings":
            raise ValueError("streaming is for source files or hub; docstrings lie on this machine")
        if self.streaming and self.split.by == "time":
            raise ValueError(
                "streaming cannot split by time: which rows are the newest is known when all were read. Split by "
                "group, or name the files of each split"
            )
        return self


class Check(Section):
    """What happens to rows that fail a check, and the share of rows above which the stage fails."""

    action: Literal["quarantine", "report"]
    max_share: float = Field(ge=0, le=1)


class PrepareChecks(Section):
    """A group of reasons each; see docs/corpora.md."""

    unreadable: Check
    id: Check
    empty: Check
    leakage: Check
    near_leakage: Check
    duplicate: Check
    near_duplicate: Check
    control_characters: Check
    mojibake: Check
    markup: Check
    too_long: Check
    summary_length: Check
    summary_leak: Check
    boilerplate: Check
    script: Check


class NearDuplicates(Section):
    """How texts are found that differ in a few words."""

    search: bool
    shingle_words: int = Field(ge=1)
    min_similarity: float = Field(gt=0, le=1)
    permutations: int = Field(ge=16)
    bands: int = Field(ge=1)
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _bands_fit(self) -> NearDuplicates:
        if self.permutations % self.bands:
            raise ValueError(f"permutations {self.permutations} must be a multiple of bands {self.bands}")
        return self


class PrepareParams(Section):
    """Which rows are set aside (the stage `prepare`)."""

    max_document_characters: int = Field(ge=1)
    max_line_characters: int = Field(ge=1)
    max_token_characters: int = Field(ge=1)
    max_same_summary: int = Field(ge=1)
    examples: int = Field(ge=0)
    near_duplicates: NearDuplicates
    checks: PrepareChecks


class TextParams(Section):
    """How text becomes words."""

    lowercase: bool


class VocabularyParams(Section):
    """Which words the models know (the stage `vocabulary`)."""

    shared: bool
    source_size: int = Field(ge=5)
    target_size: int = Field(ge=5)
    min_count: int = Field(ge=1)


class EncodeParams(Section):
    """How much of a text is kept (the stage `encode`)."""

    source_max_length: int = Field(ge=1)
    target_max_length: int = Field(ge=2)
    max_truncated_share: float = Field(ge=0, le=1)


class ModelParams(Section):
    """What the models are made of; each takes the options that it has (`precis.models.build.options_of`)."""

    cell: Literal["rnn", "gru", "lstm"]
    layers: int = Field(ge=1)
    bidirectional: bool
    embedding_size: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    decoder_size: int = Field(ge=1)
    tie_embeddings: bool
    pretrained_embeddings: str | None
    readout: Literal["tanh", "linear"]
    dropout: float = Field(ge=0, lt=1)
    word_dropout: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    attention: Literal["dot", "general", "concat", "additive"]
    input_feeding: bool
    attend_with_cell: bool
    intra_attention: bool
    coverage: bool
    coverage_weight: float = Field(ge=0)
    generation: Literal["mixture", "pointer_only"]
    pointing_weight: float = Field(ge=0)

    @model_validator(mode="after")
    def _sizes_fit(self) -> ModelParams:
        if self.attend_with_cell and self.cell != "lstm":
            raise ValueError(f"attend_with_cell needs cell: lstm, found cell: {self.cell}")
        if self.attention in ("dot", "concat"):
            query_size = self.decoder_size * (2 if self.attend_with_cell else 1)
            encoder_size = self.hidden_size * (2 if self.bidirectional else 1)
            if query_size != encoder_size:
                raise ValueError(
                    f"attention: {self.attention} needs queries as wide as the encoder states "
                    f"({encoder_size}), found {query_size}"
                )
        return self


class TrainParams(Section):
    """How the models are trained (the stage `train`)."""

    seed: int = Field(ge=0)
    threads: int = Field(ge=1)
    devices: int = Field(ge=1)
    num_nodes: int = Field(ge=1)
    strategy: Literal["auto", "ddp"]
    precision: Literal["full", "bfloat16"]
    max_epochs: int = Field(ge=1)
    max_minutes: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adagrad"]
    learning_rate: float = Field(gt=0)
    warmup_updates: int = Field(ge=0)
    final_learning_rate: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0)
    consistency_weight: float = Field(ge=0)
    patience: int = Field(ge=1)
    validations_per_epoch: int = Field(ge=1)
    sample_summaries: int = Field(ge=0)
    log_every_updates: int = Field(ge=1)
    checkpoint_every_updates: int = Field(ge=1)
    checkpoint_every_minutes: float = Field(ge=0)
    max_skipped_batches: int = Field(ge=0)
    coverage_updates: int = Field(ge=0)
    coverage_learning_rate: float = Field(gt=0, le=1)
    coverage_speedup: float = Field(gt=0)
    coverage_max_loss: float = Field(ge=0)
    coverage_min_repetition: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _every_worker_has_a_row(self) -> TrainParams:
        workers = self.devices * self.num_nodes
        if workers > self.batch_size:
            raise ValueError(
                f"devices {self.devices} x num_nodes {self.num_nodes} are {workers} workers, and batch_size "
                f"{self.batch_size} has not a row for each: take fewer workers, or larger batches"
            )
        return self


class PretrainingParams(Section):
    """What the models learn from the training documents alone, first (the stages `encode` and `train`)."""

    epochs: int = Field(ge=0)
    sentences: int = Field(ge=1)


class DecodingParams(Section):
    """How summaries are searched for; what re-ranks and what forbids."""

    beam_size: int = Field(ge=1)
    min_length: int = Field(ge=0)
    max_length: int = Field(ge=1)
    length_penalty: Literal["none", "average", "wu"]
    length_alpha: float = Field(ge=0)
    coverage_penalty: Literal["none", "summary", "wu"]
    coverage_beta: float = Field(ge=0)
    block_ngrams: int = Field(ge=0)
    block_exceptions: list[str]
    banned_words: list[str]
    frequent_words: int = Field(ge=0)
    shortlist: bool
    int8: bool
    bfloat16: bool

    @model_validator(mode="after")
    def _lengths_are_in_order(self) -> DecodingParams:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} exceeds max_length {self.max_length}")
        return self


class EvaluationParams(Section):
    """How the test split is scored (the stages `evaluate` and `baselines`)."""

    seed: int = Field(ge=0)
    threads: int = Field(ge=1)
    processes: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    stemmer: bool
    summary_level: Literal["newline", "sentences"]
    references: Literal["best", "mean"]
    tokenizer: Literal["unicode", "rouge-score"]
    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    length_buckets: list[int]
    baseline_sentences: int = Field(ge=1)

    @model_validator(mode="after")
    def _buckets_are_in_order(self) -> EvaluationParams:
        if self.length_buckets != sorted(set(self.length_buckets)) or min(self.length_buckets, default=1) < 1:
            raise ValueError(f"length_buckets must be rising numbers of words, found {self.length_buckets}")
        return self


class TrackingParams(Section):
    """Where MLflow keeps the record; MLFLOW_TRACKING_URI overrides it."""

    experiment: str = Field(min_length=1)


class RegistryParams(Section):
    """Which model the stage `register` puts into the MLflow registry."""

    name: str = Field(pattern=r"^\w[\w .@-]{0,99}$")  # it goes into paths, addresses and pages
    metric: str = Field(min_length=1)


class GateParams(Section):
    """What a challenger must show to become champion (`precis promote`)."""

    metric: Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
    minimum_gain: float = Field(ge=0)
    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0.5, lt=1)
    seed: int = Field(ge=0)
    max_repetition_increase: float = Field(ge=0, le=1)
    max_unsupported_increase: float = Field(ge=0, le=1)
    max_empty_increase: float = Field(ge=0, le=1)
    max_latency_ratio: float = Field(ge=1)
    latency_documents: int = Field(ge=1)
    max_size_ratio: float = Field(ge=1)
    behaviour_documents: int = Field(ge=1)
    long_input_words: int = Field(ge=1)
    long_input_seconds: float = Field(gt=0)


class ExecutionParams(Section):
    """Where work runs; no result depends on it, and so no stage runs again for it."""

    engine: Literal["local", "ray"]
    address: str | None
    workers: int = Field(ge=0)
    cpus_per_worker: float = Field(gt=0)


class Params(Section):
    """All of params.yaml."""

    corpus: CorpusParams
    prepare: PrepareParams
    text: TextParams
    vocabulary: VocabularyParams
    encode: EncodeParams
    model: ModelParams
    pretraining: PretrainingParams
    train: TrainParams
    decoding: DecodingParams
    evaluation: EvaluationParams
    tracking: TrackingParams
    registry: RegistryParams
    gate: GateParams
    execution: ExecutionParams


def has_secret(url: str) -> bool:
    """Whether an address has a password, a token or a signature in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True  # whatever it is, it is shown nowhere
    words = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    has_password = ":" in parts.netloc.rpartition("@")[0]
    return has_password or any(mark in word for word in words for mark in _SECRET_WORDS)


_SECRET_WORDS = ("token", "secret", "password", "passwd", "signature", "sig", "key", "credential", "auth")


def load_params(path: str | Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        PrecisError: the file is missing, is no YAML, or values in it cannot be used; the message
            names every problem at once.
    """
    path = Path(path)
    if not path.is_file():
        raise PrecisError(
            f"{path} not found in {Path.cwd().name}/: "
            "run this from the root of the repository, where params.yaml is"
        )
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise PrecisError(f"{path} is not UTF-8 text: {error}") from error
    except YAMLError as error:
        raise PrecisError(f"{path} is not valid YAML: {_first_lines(error)}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise PrecisError(f"{path} is not valid YAML: {type(error).__name__}, {str(error)[:200]}") from error
    return check_params(values, path)


def check_params(values: Any, path: str | Path = PARAMS_FILE) -> Params:
    """Turn plain values into typed ones; raises PrecisError like `load_params`."""
    if not isinstance(values, dict):
        raise PrecisError(
            f"{path} cannot be used: expected sections such as `train:`, found {_shown(values)}"
        )
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = [f"  {_describe(problem)}" for problem in error.errors(include_url=False)]
        raise PrecisError("\n".join([f"{path} cannot be used:", *problems])) from error


def _describe(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    match problem["type"]:
        case "missing":
            return f"{where}: missing"
        case "extra_forbidden":
            return f"{where}: unknown key"
        case "value_error":
            # what our own validators say needs no "Value error, " before it
            message = str(problem["ctx"]["error"])
            return f"{where}: {message}" if where else message
        case _:
            return f"{where}: {problem['msg']}, found {_shown(problem['input'])}"


def _shown(value: Any, longest: int = 60) -> str:
    text = _SHORT.repr(value)  # anchors can make a value that would take the memory to write out
    return text if len(text) <= longest else text[: longest - 1] + "…"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 200


def _first_lines(error: YAMLError) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
