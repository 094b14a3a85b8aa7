"""Validation loss after the same number of updates: precis and the per-step port of See et al. (2017), three seeds.

    python benchmarks/train_quality.py --corpus PATH/train.jsonl --validation PATH/validation.jsonl

The same batches in the same order, Adagrad as in the paper. The loss is the mean -log P of a target word that the
vocabulary or the source has. Smaller sizes than in the speed comparison, so that it ends in minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from see2017_port import See2017Port
from speed_data import Sizes, Workload, make_workload, read_pairs, tensors

from precis.models.build import build_model
from precis.models.source import Source, Target

Batch = dict[str, torch.Tensor]


def train(model: torch.nn.Module, loss: Callable[[Batch], torch.Tensor], batches: list[Batch]) -> None:
    parameters = list(model.parameters())
    optimizer = torch.optim.Adagrad(parameters, lr=0.15, initial_accumulator_value=0.1)
    for batch in batches:
        optimizer.zero_grad()
        loss(batch).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 2.0)
        optimizer.step()


def run_port(sizes: Sizes, batches: list[Batch], validation: list[Batch]) -> float:
    model = See2017Port(sizes.vocabulary, sizes.embedding, sizes.hidden, coverage=False)
    train(model, model.loss, batches)
    with torch.no_grad():
        sums = [model.word_losses(batch) for batch in validation]
    total = sum(losses[known].sum().item() for losses, known in sums)
    return total / sum(int(known.sum()) for _, known in sums)


def run_precis(sizes: Sizes, batches: list[Batch], validation: list[Batch], **changes: object) -> float:
    options: dict[str, object] = {
        "cell": "lstm", "layers": 1, "bidirectional": True, "embedding_size": sizes.embedding,
        "hidden_size": sizes.hidden, "decoder_size": sizes.hidden, "tie_embeddings": False, "readout": "linear",
        "dropout": 0.0, "word_dropout": 0.0, "label_smoothing": 0.0, "attention": "additive",
        "input_feeding": False, "attend_with_cell": False, "intra_attention": False, "coverage": False,
        "coverage_weight": 1.0, "generation": "mixture", "pointing_weight": 0.0,
    }  # fmt: skip
    model = build_model(
        "pointer", source_vocabulary_size=sizes.vocabulary, target_vocabulary_size=sizes.vocabulary,
        shared_vocabulary=True, **{**options, **changes},
    )  # fmt: skip

    def inputs(batch: Batch) -> tuple[Source, Target]:
        num_oovs = max(0, int(batch["extended_ids"].max()) - sizes.vocabulary + 1)
        source = Source(batch["source_ids"], batch["extended_ids"], batch["lengths"], num_oovs)
        return source, Target(batch["target_inputs"], batch["target_ids"])

    train(model, lambda batch: model.training_loss(*inputs(batch)).total, batches)
    model.eval()
    with torch.no_grad():
        losses = [model.training_loss(*inputs(batch)) for batch in validation]
    return sum(loss.nll_sum.item() for loss in losses) / sum(loss.num_tokens.item() for loss in losses)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes = Sizes(vocabulary=5_000, embedding=64, hidden=64, source_max=100, target_max=12, batch=16, pool=16)
    print("| seed | port | precis, its sizes | precis, its wiring, too | precis, general, tied |")
    print("| --- | --- | --- | --- | --- |")
    columns: list[list[float]] = []
    for seed in range(1, arguments.seeds + 1):
        workload = make_workload(read_pairs(arguments.corpus), sizes, arguments.updates, seed)
        held_out = make_workload(read_pairs(arguments.validation), sizes, 40, 1)
        batches = tensors(workload)
        validation = tensors(Workload(sizes, workload.words, held_out.batches))
        runs = [
            lambda: run_port(sizes, batches, validation),  # noqa: B023
            lambda: run_precis(sizes, batches, validation),  # noqa: B023
            lambda: run_precis(sizes, batches, validation, input_feeding=True, attend_with_cell=True),  # noqa: B023
            lambda: run_precis(
                sizes, batches, validation, attention="general", tie_embeddings=True, readout="tanh",  # noqa: B023
                decoder_size=2 * sizes.hidden,
            ),
        ]  # fmt: skip
        values = []
        for run in runs:
            torch.manual_seed(seed)
            values.append(run())
        columns.append(values)
        print(f"| {seed} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
    means = [statistics.mean(values) for values in zip(*columns, strict=True)]
    print("| mean | " + " | ".join(f"{value:.3f}" for value in means) + " |")


if __name__ == "__main__":
    main()
