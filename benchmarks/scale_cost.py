"""Hours and dollars for a corpus, from the rates below: the tables of docs/scaling.md.

    python benchmarks/scale_cost.py

Change a rate or a price here, and run it again. Every number is said where it comes from; what nobody measured is
said to be assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

# measured, per CPU second of one core: benchmarks/RESULTS.md, scale, training speed, decoding speed
DOWNLOADED_WORDS = 2_340_000
PREPARED_WORDS = 1_090_000  # of a worker of `prepare`
DECIDED_ROWS = 43_000  # that `prepare` takes in, decides over and writes, one after the other
SPLIT_WORDS = 754_000  # of a worker of `vocabulary`
COUNTED_ROWS = 17_900  # that `vocabulary` counts, one after the other
ENCODED_WORDS = 833_000
TRAINED_TOKENS = 23_354  # general + copy: forward, backward and update, float32
DECODED_STEPS = 118.35 * 16  # steps of a document, beam 4, exact
DECIDED_BYTES = 850  # of memory for a row, while `prepare` decides

# assumed
TRAINING_EFFICIENCY = 0.8  # of the cores, when gradients are averaged between machines
GPU_TIMES_A_CORE = 40  # an A10G against one core in training and decoding: nobody measured it


@dataclass(frozen=True)
class Machine:
    """What is rented."""

    name: str
    cores: int
    memory_gb: int
    dollars_an_hour: float  # on-demand list price, Linux, us-east-1, as known in mid-2025: look it up again
    gpus: int = 0
    number: int = 1


@dataclass(frozen=True)
class Corpus:
    """What is to be done."""

    name: str
    rows: int
    words: int  # of a document, on average
    read_words: int  # of them, by the model
    summary_words: int
    epochs: float
    trained_rows: int
    test_rows: int


MACHINES = (
    Machine("c7i.4xlarge", 16, 32, 0.714),
    Machine("c7i.24xlarge", 96, 192, 4.284),
    Machine("4 x c7i.24xlarge", 384, 768, 4 * 4.284, number=4),
    Machine("g5.4xlarge (one A10G)", 16, 64, 1.624, gpus=1),
)
CORPORA = (
    # See et al. (2017): 230,000 updates of 16 rows are 12.8 epochs
    Corpus("CNN/DailyMail", 311_971, 781, 400, 56, 12.8, 287_113, 11_490),
    Corpus("100 million documents", 100_000_000, 200, 200, 20, 1.0, 10_000_000, 100_000),
)


def hours(corpus: Corpus, machine: Machine) -> dict[str, float]:
    """By stage, of wall time."""
    words = corpus.rows * (corpus.words + corpus.summary_words)
    cores = machine.cores
    training = corpus.trained_rows * corpus.epochs * (corpus.read_words + corpus.summary_words)
    speed = max(cores * TRAINING_EFFICIENCY, machine.gpus * GPU_TIMES_A_CORE)
    seconds = {
        "download": words / DOWNLOADED_WORDS,
        "prepare": max(words / PREPARED_WORDS / cores, corpus.rows / DECIDED_ROWS),
        "vocabulary": max(words / SPLIT_WORDS / cores, corpus.rows / COUNTED_ROWS),
        "encode": corpus.rows * corpus.read_words / ENCODED_WORDS / cores,
        "train": training / TRAINED_TOKENS / speed,
        "evaluate": corpus.test_rows
        * corpus.summary_words
        / DECODED_STEPS
        / max(cores, machine.gpus * GPU_TIMES_A_CORE),
    }
    return {stage: value / 3600 for stage, value in seconds.items()}


def main() -> None:
    for corpus in CORPORA:
        print(f"\n{corpus.name}\n")
        print(
            "| machine | download | prepare | vocabulary | encode | train | evaluate | all, hours | dollars |"
        )
        print("| --- " * 9 + "|")
        for machine in MACHINES:
            by_stage = hours(corpus, machine)
            total = sum(by_stage.values())
            if corpus.rows * DECIDED_BYTES > machine.memory_gb * 1e9 / machine.number:
                print(f"| {machine.name} | too little memory for `prepare` | | | | | | | |")
                continue
            cells = " | ".join(f"{value:.2f}" if value >= 0.005 else "< 0.01" for value in by_stage.values())
            print(f"| {machine.name} | {cells} | {total:.1f} | {total * machine.dollars_an_hour:,.2f} |")


if __name__ == "__main__":
    main()
