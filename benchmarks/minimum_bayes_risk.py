"""The hypothesis that has most in common with the others, in the place of the most probable one.

    python benchmarks/minimum_bayes_risk.py .work/quality/FOLDER/pointer-1

Of the hypotheses that end in a beam search the one is taken whose expected ROUGE-1 plus ROUGE-2 is highest, with the
others as references and their probabilities, to the power of alpha, as weights (Kumar and Byrne, 2004). The run is
one of `benchmarks/quality.py`; all is scored on validation, with the decoding chosen for it but for the beam; gains
have their 95 % intervals by paired bootstrap. The last row has the best hypothesis of each document, chosen with the
reference in hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from quality_runs import SHOWN, Run, gains

from precis.errors import PrecisError
from precis.evaluation.rouge import ParallelRouge, parallel_rouge
from precis.evaluation.rows import references
from precis.serving.summarizer import Candidates, Summarizer

ALPHAS = (0.25, 0.5, 1.0, 2.0, 4.0)


def utilities(found: Sequence[Candidates], rouge: ParallelRouge) -> list[np.ndarray]:
    """ROUGE-1 plus ROUGE-2 of each hypothesis (columns) with each other as its reference (rows)."""
    pairs = [([one], other) for document in found for one in document.texts for other in document.texts]
    values = rouge.score(pairs).values[:, SHOWN[:2]].sum(axis=1)
    sizes = [len(document.texts) for document in found]
    ends = np.cumsum([size**2 for size in sizes])[:-1]
    return [part.reshape(size, size) for part, size in zip(np.split(values, ends), sizes, strict=True)]


def least_risk(document: Candidates, utility: np.ndarray, alpha: float) -> int:
    """The number of the hypothesis with the highest expected utility."""
    log_probs = alpha * np.array([one.log_prob for one in document.hypotheses])
    weights = np.exp(log_probs - log_probs.max())
    return int(np.argmax(weights @ utility))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--documents", type=int, default=100_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(arguments.run)
    rows = run.validation()[: arguments.documents]
    decoding = run.decoding() | {"beam_size": arguments.beam}
    found, _ = Summarizer.load(run.model).candidates([row["document"] for row in rows], **decoding)
    with parallel_rouge(run.convention(), 1) as rouge:
        utility = utilities(found, rouge)
        pairs = [
            (references(row), text)
            for row, document in zip(rows, found, strict=True)
            for text in document.texts
        ]
        values = 100 * rouge.score(pairs).values[:, SHOWN]
    gained = np.split(values, np.cumsum([len(document.texts) for document in found])[:-1])
    most_probable = np.stack([of_document[0] for of_document in gained])
    print(f"{len(rows)} validation rows, beam {arguments.beam}, {run.convention().signature}\n")
    print("| hypothesis | ROUGE-1 | ROUGE-2 | ROUGE-L |")
    print("| --- | ---: | ---: | ---: |")
    print(f"| first | {' | '.join(f'{mean:.2f}' for mean in most_probable.mean(axis=0))} |")
    choices = {
        f"least risk, alpha {alpha:g}": [
            least_risk(document, of_document, alpha)
            for document, of_document in zip(found, utility, strict=True)
        ]
        for alpha in ALPHAS
    }
    choices["best, if one knew"] = [int(np.argmax(own[:, :2].sum(axis=1))) for own in gained]
    for name, chosen in choices.items():
        ours = np.stack([own[number] for own, number in zip(gained, chosen, strict=True)])
        print(f"| {name} | {gains(most_probable, ours)} |")


if __name__ == "__main__":
    try:
        main()
    except PrecisError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
