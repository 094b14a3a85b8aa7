"""Option sets of papers, for `build_model`."""

from __future__ import annotations

from typing import Any

SEE2017: dict[str, Any] = {
    "source_vocabulary_size": 50_000,
    "target_vocabulary_size": 50_000,
    "shared_vocabulary": True,
    "cell": "lstm",
    "layers": 1,
    "bidirectional": True,
    "embedding_size": 128,
    "hidden_size": 256,
    "decoder_size": 256,
    "tie_embeddings": False,
    "readout": "linear",
    "dropout": 0.0,
    "word_dropout": 0.0,
    "label_smoothing": 0.0,
    "attention": "additive",
    "input_feeding": True,
    "attend_with_cell": True,
    "intra_attention": False,
    "coverage": True,
    "coverage_weight": 1.0,
    "generation": "mixture",
    "pointing_weight": 0.0,
}
"""See, Liu and Manning (2017): pointer-generator with coverage. Without the last two options and with
`coverage: false` it is their sequence-to-sequence baseline."""

PRESETS: dict[str, dict[str, Any]] = {"see2017": SEE2017}
