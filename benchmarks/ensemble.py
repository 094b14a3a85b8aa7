"""What several pointer models write together, beside what the first of them writes alone.

    python benchmarks/ensemble.py .work/quality/FOLDER/pointer-1 .work/quality/FOLDER/pointer-2 …

The runs are those of `benchmarks/quality.py`, with one vocabulary. All is scored on validation, with the decoding that
was chosen for the first run; gains over the first have their 95 % intervals by paired bootstrap.

An ensemble of pointer-generators is a pointer-generator for every step: p_gen is the mean of theirs, P_vocab and the
attention are theirs, weighted by what each gives to generating and to copying. So P(w) is the mean of theirs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality_runs import SHOWN, Run, gains
from torch import Tensor
from typing_extensions import override

from precis.errors import PrecisError
from precis.evaluation.rouge import parallel_rouge
from precis.evaluation.rows import references
from precis.models.base import Memory, State, Step, SummarizationModel
from precis.models.losses import Losses
from precis.models.source import Source, Target
from precis.serving.output_scores import OutputMatrix
from precis.serving.summarizer import Summarizer
from precis.text.vocabulary import Vocabulary


class Ensemble(SummarizationModel):
    """Pointer models with one vocabulary as a model that can be stepped, not trained."""

    def __init__(self, models: Sequence[SummarizationModel]) -> None:
        super().__init__()
        self._models = list(models)
        self.weights = torch.nn.ModuleList(models)

    @override
    def training_loss(self, source: Source, target: Target, consistency_weight: float = 0.0) -> Losses:
        raise PrecisError("an ensemble is made of models that are trained already")

    @override
    def encode(self, source: Source) -> Memory:
        return _joined([model.encode(source) for model in self._models])

    @override
    def initial_state(self, memory: Memory, beams: int) -> State:
        states = [
            model.initial_state(_part(memory, number), beams) for number, model in enumerate(self._models)
        ]
        return _joined(states)

    @override
    def step(self, memory: Memory, state: State, previous_ids: Tensor) -> Step:
        steps = [
            model.step(_part(memory, number), _part(state, number), previous_ids)
            for number, model in enumerate(self._models)
        ]
        # in double precision: a mean of gates near 0 or 1 becomes a logit again
        gates = torch.stack([torch.sigmoid(_there(step.p_gen_logit).double()) for step in steps])
        generated = torch.stack([step.vocab_log_probs.double().exp() for step in steps])
        attention = torch.stack([_there(step.attention).double() for step in steps])
        return Step(
            vocab_log_probs=((gates * generated).sum(0) / gates.sum(0)).log().float(),
            attention=(((1 - gates) * attention).sum(0) / (1 - gates).sum(0)).float(),
            p_gen_logit=torch.logit(gates.mean(0), eps=1e-9).float(),
            state=_joined([step.state for step in steps]),
        )


class EnsembleSummarizer(Summarizer):
    """Summaries by an ensemble: its steps have all of P_vocab, so there is no output layer to ask in parts."""

    @override
    def _output(self, *, shortlist: bool, int8: bool, bfloat16: bool) -> OutputMatrix | None:
        return None


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{number}/{name}": value for number, part in enumerate(parts) for name, value in part.items()}


def _part(joined: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    start = f"{number}/"
    return {name.removeprefix(start): value for name, value in joined.items() if name.startswith(start)}


def _there(value: Tensor | None) -> Tensor:
    assert value is not None, "a pointer model has attention and a gate"
    return value


def ensemble(runs: Sequence[Run]) -> Summarizer:
    """Load the models of some runs as one; raises PrecisError where their vocabularies differ."""
    summarizers = [Summarizer.load(run.model) for run in runs]
    words = [_words(summarizer.target_vocabulary) for summarizer in summarizers]
    for run, own in zip(runs, words, strict=True):
        if own != words[0]:
            raise PrecisError(
                f"{run.folder}: its vocabulary is not that of {runs[0].folder}; expected one for all"
            )
    together = EnsembleSummarizer.load(runs[0].model)
    together.model = Ensemble([summarizer.model for summarizer in summarizers]).eval()
    return together


def _words(vocabulary: Vocabulary) -> list[str]:
    return [vocabulary.word(id_) for id_ in range(len(vocabulary))]


def scores(summarizer: Summarizer, rows: Sequence[dict[str, Any]], run: Run) -> np.ndarray:
    """ROUGE F1 by document in points, (N, 3), with the decoding and the convention of a run."""
    documents = [row["document"] for row in rows]
    texts = [summary.text for summary in summarizer.summarize(documents, **run.decoding())]
    with parallel_rouge(run.convention(), 1) as rouge:
        return 100 * rouge.score(zip(map(references, rows), texts, strict=True)).values[:, SHOWN]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--documents", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = [Run(folder) for folder in arguments.runs]
    first = runs[0]
    rows = first.validation()[: arguments.documents]
    print(f"{len(rows)} validation rows, {first.convention().signature}\n")
    print("| models | ROUGE-1 | ROUGE-2 | ROUGE-L |")
    print("| --- | ---: | ---: | ---: |")
    alone = scores(Summarizer.load(first.model), rows, first)
    print(f"| {first.folder} | {' | '.join(f'{mean:.2f}' for mean in alone.mean(axis=0))} |")
    for number in range(2, len(runs) + 1):
        together = scores(ensemble(runs[:number]), rows, first)
        print(f"| and {runs[number - 1].folder} | {gains(alone, together)} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except PrecisError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
