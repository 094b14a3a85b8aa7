"""A small untrained model in a directory, as the training stage leaves one."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import torch

from precis.models.build import build_model, options_of
from precis.models.storage import save_model
from precis.text.tokenizer import Tokenizer
from precis.text.vocabulary import Vocabulary, fold_case

DOCUMENTS = [
    "The <b>Quick</b> brown fox of O'Neil's jumps over the lazy dog, twice! Then it stops.",
    "Return the Zürich number of a_b_c items (see `frobnicate`); raises ValueError if 3.5 < x.",
    "Le café «Ölüm» 日本 भारत … costs 30 % more.\n\nSecond paragraph: 😀 is an emoji.",
    "one",
    "A very long one. " * 30,
]
DECODING = {
    "beam_size": 3,
    "min_length": 2,
    "max_length": 9,
    "length_penalty": "average",
    "length_alpha": 1.0,
    "coverage_penalty": "none",
    "coverage_beta": 0.0,
    "block_ngrams": 2,
    "block_exceptions": [],
    "banned_words": [],
    "frequent_words": 12,
    "shortlist": False,
    "int8": False,
}
OPTIONS = {
    "cell": "lstm",
    "layers": 1,
    "bidirectional": True,
    "embedding_size": 8,
    "hidden_size": 6,
    "decoder_size": 12,
    "tie_embeddings": False,
    "pretrained_embeddings": None,
    "readout": "tanh",
    "dropout": 0.0,
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


def write_model(
    directory: Path,
    name: str,
    seed: int = 0,
    summary_counts: dict[str, int] | None = None,
    **changes: object,
) -> Path:
    """Write a model directory whose vocabulary has about half of the words of DOCUMENTS."""
    plain = Tokenizer(lowercase=False)
    written = Counter(word for text in DOCUMENTS for word in plain.words(text) if not re.match("[a-m]", word))
    counts, surfaces = fold_case(written, lowercase=True)
    vocabulary = Vocabulary.build(counts, 40, 1, surfaces, summary_counts)
    torch.manual_seed(seed)
    options = {key: value for key, value in {**OPTIONS, **changes}.items() if key in options_of(name)}
    model = build_model(
        name,
        source_vocabulary_size=len(vocabulary),
        target_vocabulary_size=len(vocabulary),
        shared_vocabulary=True,
        **options,
    )
    with torch.no_grad():  # livelier than small random weights
        for parameter in model.parameters():
            parameter.mul_(3.0)
    directory.mkdir(parents=True, exist_ok=True)
    save_model(model, directory)
    vocabulary.save(directory / "shared.txt")
    text = {"lowercase": True, "source_max_length": 60, "shared": True, "decoding": DECODING}
    (directory / "text.json").write_text(json.dumps(text), encoding="utf-8")
    (directory / "run.json").write_text(json.dumps({"fingerprint": "abc", "run_id": "r1"}), encoding="utf-8")
    return directory
