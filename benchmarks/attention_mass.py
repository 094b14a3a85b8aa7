"""How much of a model's attention lies on the word that is to be written next, where the document has it.

    python benchmarks/attention_mass.py models/attention data/encoded

On validation, with the summary given up to each word (teacher forcing), over the target words that the vocabulary and
the document both have; beside it, what attention would lie there if it were spread evenly over the document.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from precis.batches.data_module import EncodedDataModule
from precis.errors import PrecisError
from precis.models.losses import TargetRows, copied_mass
from precis.models.storage import load_model
from precis.training.flight_recorder import inputs_of


def attention_mass(model_directory: Path, encoded: Path) -> tuple[int, float, float]:
    """Target words looked at, the mean attention on them, and the mean of even attention."""
    model = load_model(model_directory)
    decoder = getattr(model, "seq2seq", model)
    if not hasattr(decoder, "decode_target"):
        raise PrecisError(f"{model_directory}: this model has no attention")
    data = EncodedDataModule(encoded, target_vocabulary_size=decoder.vocabulary_size, batch_size=64, seed=1)
    number, mass, even = 0, 0.0, 0.0
    with torch.inference_mode():
        for batch in data.val_dataloader():
            source, target = inputs_of(batch)
            decoded = decoder.decode_target(source, target)
            rows = TargetRows(source, target, decoder.vocabulary_size, pointer=True)
            assert rows.matches is not None
            here = rows.matches.any(dim=1) & rows.in_vocabulary
            masses = copied_mass(rows.take(decoded.log_attention), rows.matches).exp()
            lengths = source.lengths[rows.rows // target.ids.shape[1]]
            number += int(here.sum())
            mass += float(masses[here].sum())
            even += float((rows.matches.sum(dim=1) / lengths)[here].sum())
    return number, mass / number, even / number


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("encoded", type=Path)
    arguments = parser.parse_args()
    number, mass, even = attention_mass(arguments.model, arguments.encoded)
    print(f"{number:,} words: {mass:.1%} of the attention on them, {even:.1%} if it were spread evenly")


if __name__ == "__main__":
    try:
        main()
    except PrecisError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
