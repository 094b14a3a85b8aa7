"""Building a model from plain options."""

from __future__ import annotations

import inspect
from typing import Any

from precis.errors import PrecisError
from precis.models.attention_seq2seq import AttentionSeq2Seq
from precis.models.base import SummarizationModel
from precis.models.encoder_decoder import EncoderDecoder
from precis.models.pointer_generator import PointerGenerator

MODELS: dict[str, type[SummarizationModel]] = {
    "encoder_decoder": EncoderDecoder,
    "attention": AttentionSeq2Seq,
    "pointer": PointerGenerator,
}

_CHOICES = {
    "cell": ("rnn", "gru", "lstm"),
    "readout": ("tanh", "linear"),
    "attention": ("dot", "general", "concat", "additive"),
    "generation": ("mixture", "pointer_only"),
}
_SIZES = (
    "source_vocabulary_size", "target_vocabulary_size", "layers", "embedding_size", "hidden_size",
    "decoder_size",
)  # fmt: skip
_RATES = ("dropout", "word_dropout", "label_smoothing")
_WEIGHTS = ("coverage_weight", "pointing_weight")
_FLAGS = (
    "shared_vocabulary", "bidirectional", "tie_embeddings", "input_feeding", "attend_with_cell",
    "intra_attention", "coverage",
)  # fmt: skip
_STATE = ("coverage_on",)


def options_of(name: str) -> frozenset[str]:
    """The options that `build_model` wants for a model, the vocabulary's three included."""
    names = set(inspect.signature(_model_class(name).__init__).parameters)
    if name == "pointer":
        names |= options_of("attention")
    return frozenset(names - {"self", "options", "generates_words", *_STATE})


def build_model(
    name: str,
    *,
    source_vocabulary_size: int,
    target_vocabulary_size: int,
    shared_vocabulary: bool,
    **options: Any,
) -> SummarizationModel:
    """Build an untrained model; its weights come from torch's random generator.

    Args:
        name: encoder_decoder, attention or pointer.
        source_vocabulary_size: words of the source vocabulary, special words included.
        target_vocabulary_size: V, the same for the target.
        shared_vocabulary: both are one vocabulary, and so there is one embedding.
        options: exactly those of `options_of(name)`:

            - cell: rnn, gru or lstm; layers: of encoder and decoder; bidirectional: the encoder reads both
              ways;
            - embedding_size; hidden_size: of one direction of the encoder; decoder_size;
            - tie_embeddings: the output layer is the target embedding, which with a shared vocabulary is the
              source embedding, too;
            - readout: tanh or linear, what comes before the output layer;
            - dropout; word_dropout: share of input words replaced by the unknown word; label_smoothing;
            - attention: dot, general, concat or additive; input_feeding: the context is an input of the next
              step (slow: a loop over the steps); attend_with_cell: query with (c, h) of an LSTM (the same);
              intra_attention: the decoder attends to its own past; coverage: attention knows its past;
              coverage_weight: of the coverage loss; pointing_weight: of the pointing loss (attention and
              pointer only);
            - generation: mixture or pointer_only (pointer only).

            And, not asked for, coverage_on: whether coverage is switched on, as `switch_coverage` left it.

    Raises:
        PrecisError: a name, an option or a value that cannot be used; all options at once.
    """
    given = {
        "source_vocabulary_size": source_vocabulary_size,
        "target_vocabulary_size": target_vocabulary_size,
        "shared_vocabulary": shared_vocabulary,
        **options,
    }
    wanted = options_of(name)
    allowed = wanted | (set(_STATE) if name != "encoder_decoder" else set())
    problems = [f"{key}: missing" for key in sorted(wanted - given.keys())]
    problems += [f"{key}: unknown option" for key in sorted(given.keys() - allowed)]
    problems += [problem for key, value in given.items() if (problem := _problem_with(key, value))]
    if given.get("shared_vocabulary") is True and source_vocabulary_size != target_vocabulary_size:
        problems.append(
            f"shared_vocabulary: one vocabulary has one size, found {source_vocabulary_size} for the source "
            f"and {target_vocabulary_size} for the target"
        )
    if problems:
        raise PrecisError(
            "\n".join([f"model {name!r} cannot be built:", *(f"  {line}" for line in problems)])
        )
    model = _model_class(name)(**given)
    model.name = name
    model.options = given
    return model


def _model_class(name: str) -> type[SummarizationModel]:
    if name not in MODELS:
        raise PrecisError(f"there is no model {name!r}; expected one of {', '.join(MODELS)}")
    return MODELS[name]


def _problem_with(key: str, value: Any) -> str | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key in _CHOICES and value not in _CHOICES[key]:
        return f"{key}: expected one of {', '.join(_CHOICES[key])}, found {value!r}"
    if key in _SIZES and not (is_number and isinstance(value, int) and value >= 1):
        return f"{key}: expected a whole number of at least 1, found {value!r}"
    if key in _RATES and not (is_number and 0 <= value < 1):
        return f"{key}: expected a number from 0 to less than 1, found {value!r}"
    if key in _WEIGHTS and not (is_number and 0 <= value < float("inf")):
        return f"{key}: expected a number of at least 0, found {value!r}"
    if key in _FLAGS and not isinstance(value, bool):
        return f"{key}: expected true or false, found {value!r}"
    return None
