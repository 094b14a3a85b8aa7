"""The typed form of params.yaml: one section for each part, no default anywhere.

A section object stops at `stages`: below it, functions take plain keyword arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from precis.errors import PrecisError

PARAMS_FILE = Path("params.yaml")


class Section(BaseModel):
    """A group of parameters: every key is required, unknown keys are refused, types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


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
    max_epochs: int = Field(ge=1)
    max_minutes: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adagrad"]
    learning_rate: float = Field(gt=0)
    warmup_updates: int = Field(ge=0)
    final_learning_rate: float = Field(ge=0, le=1)
    weight_decay: float = Field(ge=0)
    gradient_clip: float = Field(gt=0)
    patience: int = Field(ge=1)
    validations_per_epoch: int = Field(ge=1)
    sample_summaries: int = Field(ge=0)
    log_every_updates: int = Field(ge=1)
    checkpoint_every_updates: int = Field(ge=1)
    max_skipped_batches: int = Field(ge=0)


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

    @model_validator(mode="after")
    def _lengths_are_in_order(self) -> DecodingParams:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} exceeds max_length {self.max_length}")
        return self


class EvaluationParams(Section):
    """How the test split is scored (the stages `evaluate` and `baselines`)."""

    seed: int = Field(ge=0)
    threads: int = Field(ge=1)
    processes: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    stemmer: bool
    summary_level: Literal["newline", "sentences"]
    references: Literal["best", "mean"]
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

    name: str = Field(min_length=1, pattern=r"^[^/:]+$")
    metric: str = Field(min_length=1)


class Params(Section):
    """All of params.yaml."""

    model: ModelParams
    train: TrainParams
    decoding: DecodingParams
    evaluation: EvaluationParams
    tracking: TrackingParams
    registry: RegistryParams


def load_params(path: str | Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        PrecisError: the file is missing, is no YAML, or values in it cannot be used; the message
            names every problem at once.
    """
    path = Path(path)
    if not path.is_file():
        raise PrecisError(
            f"{path} not found in {Path.cwd().name}/: run this from the root of the repository, where params.yaml is"
        )
    try:
        values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise PrecisError(f"{path} is not valid YAML: {_first_lines(error)}") from error
    except UnicodeDecodeError as error:
        raise PrecisError(f"{path} is not UTF-8 text: {error}") from error
    return check_params(values, path)


def check_params(values: Any, path: str | Path = PARAMS_FILE) -> Params:
    """Turn plain values into typed ones; raises PrecisError like `load_params`."""
    if not isinstance(values, dict):
        raise PrecisError(f"{path} cannot be used: expected sections such as `train:`, found {_shown(values)}")
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
    text = repr(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _first_lines(error: YAMLError) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())
