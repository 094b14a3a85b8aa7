"""What more workers bring: measured with one and two, simulated up to 64.

    python benchmarks/scale_workers.py measure --rows 100000 --model models/pointer     one and two workers of Ray
    python benchmarks/scale_workers.py simulate --rows 100000 --model models/pointer --of 1000000

`simulate` runs prepare, vocabulary, encode and evaluate here, and writes down what each part of the work that an
engine can give away takes and how large its result is, in seconds of CPU time and bytes. What is left is the serial
part: reading results in order, deciding by what came before, writing. Then parts like these, as many as a larger
corpus has, are given to 1 to 64 workers, the next one to whoever is free first, as Ray does it. Skew is the time of
the busiest worker over that of the average one; speed-up is against one process that does it all, and what takes the
results in is a process besides the workers. The rows are those that `benchmarks/scale.py measure` left in .work/scale/.
"""

from __future__ import annotations

import argparse
import heapq
import json
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scale import WORK

from precis.execution.engine import CHUNK_ROWS, Engine
from precis.execution.local import LocalEngine
from precis.execution.open_engine import open_engine
from precis.params import Params, load_params

WORKERS = (1, 2, 4, 8, 16, 32, 64)
_EVALUATED_ROWS = 2_000


@dataclass
class Parts:
    """What the parts of a stage's work took."""

    seconds: list[float] = field(default_factory=list)
    bytes_in: list[int] = field(default_factory=list)
    bytes_out: list[int] = field(default_factory=list)

    def note(self, function: Callable[..., Any], *arguments: Any, bytes_in: int) -> Any:
        begin = time.process_time()
        result = function(*arguments)
        self.seconds.append(time.process_time() - begin)
        self.bytes_in.append(bytes_in)
        self.bytes_out.append(len(pickle.dumps(result, protocol=5)))
        return result


class WatchingEngine(LocalEngine):
    """Does the work here, and notes what each part takes and sends back."""

    def __init__(self) -> None:
        super().__init__(processes=1)
        self.rows, self.items = Parts(), Parts()
        self.unseen_seconds = 0.0

    def map_rows(self, path: Path, function: Callable[..., Any], **options: Any) -> Iterator[Any]:
        def noted(batch: pa.RecordBatch) -> Any:
            begin = time.process_time()
            result = self.rows.note(function, batch, bytes_in=batch.nbytes)
            self.unseen_seconds += time.process_time() - begin - self.rows.seconds[-1]
            return result

        return super().map_rows(path, noted, **options)

    def map_items(self, function: Callable[..., Any], shared: Any, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            yield self.items.note(function, shared, item, bytes_in=item.nbytes)


def run_prepare(folder: Path, params: Params, engine: Engine, out: Path) -> None:
    from precis.stages.prepare import firewall_of, prepare

    firewall = firewall_of(params.prepare, engine)
    checks = params.prepare.checks.model_dump()
    shares = {name: check["max_share"] for name, check in checks.items()}
    prepare(
        folder / "data/raw",
        out / "prepared",
        out / "data_checks.json",
        firewall=firewall,
        max_shares=shares,
    )


def run_vocabulary(folder: Path, params: Params, engine: Engine, out: Path) -> None:
    from precis.stages.vocabulary import Cut, build_vocabularies

    build_vocabularies(
        folder / "data/prepared",
        out / "vocabulary",
        out / "vocabulary.json",
        cut=Cut(**params.vocabulary.model_dump()),
        lowercase=params.text.lowercase,
        source_max_length=params.encode.source_max_length,
        target_max_length=params.encode.target_max_length,
        max_truncated_share=1.0,
        engine=engine,
    )


def run_encode(folder: Path, params: Params, engine: Engine, out: Path) -> None:
    from precis.stages.encode import encode, load_vocabularies
    from precis.text.tokenizer import Tokenizer

    source, target = load_vocabularies(folder / "data/vocabulary", params.vocabulary.shared)
    encode(
        folder / "data/prepared",
        out / "encoded",
        source_vocabulary=source,
        target_vocabulary=target,
        tokenizer=Tokenizer(params.text.lowercase),
        source_max_length=params.encode.source_max_length,
        target_max_length=params.encode.target_max_length,
        gap_sentences=params.pretraining.sentences if params.pretraining.epochs else 0,
        engine=engine,
    )


def run_evaluate(model: Path, params: Params, engine: Engine, out: Path, rows: Path) -> None:
    from precis.stages.evaluate import evaluate

    decoding = params.decoding.model_dump(mode="json")
    evaluate(model, rows, out / "report", decoding=decoding, settings=params.evaluation, engine=engine)


def stages(folder: Path, model: Path | None, out: Path) -> dict[str, tuple[Callable[[Engine], None], int]]:
    """Each stage as a function of an engine, and the rows that it has to do with."""
    import pyarrow.parquet as pq

    params = load_params(folder / "params.yaml")
    num_rows = sum(
        entry["rows"]
        for entry in json.loads((folder / "data/raw/checksums.json").read_text()).values()
        if "rows" in entry
    )
    found: dict[str, tuple[Callable[[Engine], None], int]] = {
        "prepare": (lambda engine: run_prepare(folder, params, engine, out), num_rows),
        "vocabulary": (lambda engine: run_vocabulary(folder, params, engine, out), num_rows),
        "encode": (lambda engine: run_encode(folder, params, engine, out), num_rows),
    }
    if model is not None:
        table = pq.read_table(folder / "data/prepared/test.parquet").slice(0, _EVALUATED_ROWS)
        pq.write_table(table, out / "test.parquet", row_group_size=CHUNK_ROWS)
        found["evaluate"] = (
            lambda engine: run_evaluate(model, params, engine, out, out / "test.parquet"),
            table.num_rows,
        )
    return found


def shared_out(seconds: Iterable[float], num_workers: int) -> list[float]:
    """How long each worker works, when the next part goes to whoever is free first."""
    busy = [0.0] * num_workers
    for part in seconds:
        heapq.heappush(busy, heapq.heappop(busy) + part)
    return busy


def simulate(folder: Path, model: Path | None, of: int) -> None:
    print(
        f"| stage | workers | busiest, s | skew | to workers, MB | back, MB | serial, s | speed-up |\n{'| --- ' * 8}|"
    )
    with tempfile.TemporaryDirectory(dir=WORK) as work:
        for stage, (run, num_rows) in stages(folder, model, Path(work)).items():
            engine = WatchingEngine()
            begin = time.process_time()
            run(engine)
            whole = time.process_time() - begin - engine.unseen_seconds
            serial = (whole - sum(engine.rows.seconds) - sum(engine.items.seconds)) * of / num_rows
            parts = engine.rows
            generator = np.random.default_rng(1)
            chosen = generator.integers(0, len(parts.seconds), round(len(parts.seconds) * of / num_rows))
            seconds = np.array(parts.seconds)[chosen]
            bands = [part * of / num_rows for part in engine.items.seconds]
            sent = np.array(parts.bytes_in)[chosen].sum() + sum(engine.items.bytes_in) * of / num_rows
            back = np.array(parts.bytes_out)[chosen].sum() + sum(engine.items.bytes_out) * of / num_rows
            alone = seconds.sum() + sum(bands) + serial
            for number in WORKERS:
                busy = shared_out(seconds, number)
                # the bands come after all rows; results are taken in while others are worked on
                longest = max(*busy, serial) + max(shared_out(bands, number), default=0.0)
                skew = max(busy) / (sum(busy) / number)
                print(
                    f"| `{stage}` | {number} | {max(busy):,.1f} | {skew:.2f} | {sent / 1e6:,.0f} | {back / 1e6:,.0f} "
                    f"| {serial:,.1f} | {alone / longest:.1f} |",
                    flush=True,
                )


def measure(folder: Path, model: Path | None) -> None:
    print("| stage | one worker, s | two, s | times as fast |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(dir=WORK) as work:
        for stage, (run, _) in stages(folder, model, Path(work)).items():
            seconds = []
            for workers in (1, 2):
                with open_engine("ray", address=None, workers=workers, cpus_per_worker=1.0) as engine:
                    begin = time.monotonic()
                    run(engine)
                    seconds.append(time.monotonic() - begin)
            print(
                f"| `{stage}` | {seconds[0]:.1f} | {seconds[1]:.1f} | {seconds[0] / seconds[1]:.2f} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("measure", "simulate"))
    parser.add_argument("--rows", type=int, default=100_000, help="which corpus of benchmarks/scale.py")
    parser.add_argument("--of", type=int, default=1_000_000, help="rows that are simulated")
    parser.add_argument("--model", type=Path, help="a model's folder; without one, evaluate is left out")
    arguments = parser.parse_args()
    folder = WORK / f"{arguments.rows}"
    if arguments.command == "simulate":
        simulate(folder, arguments.model, arguments.of)
    else:
        measure(folder, arguments.model)


if __name__ == "__main__":
    main()
