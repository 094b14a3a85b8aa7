"""Time and memory of download, prepare, vocabulary and encode, from 10,000 rows on.

    python benchmarks/scale.py measure 10000 100000 1000000    each stage a process of its own; about half an hour
    python benchmarks/scale.py report                          docs/images/scale.png and a block of RESULTS.md

Rows come from `benchmarks/scale_corpus.py`. What is measured stays in .work/scale/, so that sizes may be measured one
by one. Memory is what the stage and all its processes hold together, looked at ten times a second, or the operating
system's own maximum of the stage, whichever is more. Seconds are of CPU time: the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".work/scale"
IMAGE = ROOT / "docs/images/scale.png"
RESULTS = ROOT / "benchmarks/RESULTS.md"
STAGES = ("download", "prepare", "vocabulary", "encode")
_MB = 1 << 20


@dataclass(frozen=True)
class Measured:
    """What a stage took."""

    rows: int
    stage: str
    cpu_seconds: float
    wall_seconds: float
    peak_mb: float
    written_mb: float
    rows_kept: int


def measure(num_rows: int, stages: list[str]) -> None:
    """Run the stages one after the other, and add what they took to the results."""
    folder = WORK / f"{num_rows}"
    corpus = _corpus(num_rows)
    folder.mkdir(parents=True, exist_ok=True)
    write_params(folder, corpus)
    for stage in stages:
        measured = _run(stage, folder, num_rows)
        with (WORK / "results.jsonl").open("a") as file:
            file.write(json.dumps(asdict(measured)) + "\n")
        print(_line(measured), flush=True)


def _corpus(num_rows: int) -> Path:
    """The rows, in files: made, or the first ones of a larger corpus that is there."""
    corpus = WORK / f"corpus-{num_rows}"
    if corpus.exists():
        return corpus
    temporary = corpus.with_suffix(".part")
    shutil.rmtree(temporary, ignore_errors=True)
    sizes = (int(path.name.partition("-")[2]) for path in WORK.glob("corpus-*") if not path.suffix)
    larger = min((size for size in sizes if size > num_rows), default=None)
    if larger is None:
        script = str(Path(__file__).with_name("scale_corpus.py"))
        # a process started by a large one counts as large itself
        subprocess.run([sys.executable, script, str(temporary), str(num_rows)], check=True)
    else:
        temporary.mkdir()
        left = num_rows
        for path in sorted((WORK / f"corpus-{larger}").iterdir()):
            with path.open("rb") as source, (temporary / path.name).open("wb") as target:
                for line in islice(source, left):
                    target.write(line)
                    left -= 1
            if not left:
                break
    return temporary.rename(corpus)


def write_params(folder: Path, corpus: Path, **execution: object) -> None:
    """The project's own params.yaml, on another corpus."""
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["corpus"] |= {"source": "files", "max_rows": None}
    params["corpus"]["files"]["path"] = str(corpus)
    params["corpus"]["columns"]["group"] = "group"
    params["execution"] |= execution
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)


def _run(stage: str, folder: Path, num_rows: int) -> Measured:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"precis.stages.{stage}"]
    begin = time.monotonic()
    with (folder / f"{stage}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=log, stdout=log)
        peak = watch_memory(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - begin
    if status:
        sys.exit(f"{stage} failed: {(folder / f'{stage}.log').read_text()[-2000:]}")
    peak_bytes = max(peak(), usage.ru_maxrss * 1024)
    out = folder / "data" / {"download": "raw", "prepare": "prepared", "encode": "encoded"}.get(stage, stage)
    written = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(num_rows, stage, cpu, wall, peak_bytes / _MB, written / _MB, _rows_kept(folder))


def watch_memory(pid: int) -> Callable[[], int]:
    """Look at a process and all its children until it ends; what is returned waits, and gives the most bytes."""
    most = 0

    def watch() -> None:
        nonlocal most
        try:
            top = psutil.Process(pid)
            while top.is_running() and top.status() != psutil.STATUS_ZOMBIE:
                total = 0
                for process in (top, *top.children(recursive=True)):
                    try:
                        total += process.memory_info().rss
                    except psutil.NoSuchProcess:
                        continue
                most = max(most, total)
                time.sleep(0.1)
        except psutil.NoSuchProcess:
            return

    thread = threading.Thread(target=watch)
    thread.start()

    def result() -> int:
        thread.join()
        return most

    return result


def _rows_kept(folder: Path) -> int:
    report = folder / "reports/data_checks.json"
    if not report.is_file():
        return 0
    return sum(split["kept"] for split in json.loads(report.read_text())["rows"].values())


def _line(one: Measured) -> str:
    return (
        f"{one.rows:>9,} rows  {one.stage:<10} {one.cpu_seconds:8.1f} s CPU  {one.wall_seconds:8.1f} s  "
        f"{one.rows / one.cpu_seconds:9,.0f} rows/s  {one.peak_mb:6.0f} MB"
    )


def read_results() -> dict[str, dict[int, Measured]]:
    """By stage and rows, the last measurement of each."""
    found: dict[str, dict[int, Measured]] = {stage: {} for stage in STAGES}
    for line in (WORK / "results.jsonl").read_text().splitlines():
        one = Measured(**json.loads(line))
        found[one.stage][one.rows] = one
    return found


def slope(points: dict[int, float]) -> float:
    """Of the straight line through the points on a log-log plot."""
    rows = sorted(points)
    return float(np.polyfit(np.log(rows), np.log([points[n] for n in rows]), 1)[0])


def report() -> None:
    """Draw the sizes of which all stages were measured, and put them at the end of RESULTS.md's section on scale."""
    results = read_results()
    sizes = sorted(set.intersection(*(set(by_rows) for by_rows in results.values())))
    results = {stage: {rows: by_rows[rows] for rows in sizes} for stage, by_rows in results.items()}
    _draw(results, sizes)
    lines = [
        f"### {sizes[-1]:,} rows, {date.today()}, commit {_commit()}",
        "",
        f"    python benchmarks/scale.py measure {' '.join(map(str, sizes))}",
        "",
        f"| stage | {' | '.join(f'{rows:,} rows, s' for rows in sizes)} | slope, all sizes | slope, last two "
        f"| rows a second | {' | '.join(f'{rows:,} rows, MB' for rows in sizes)} | written, MB |",
        "| --- |" + " --- |" * (2 * len(sizes) + 4),
    ]
    for stage, by_rows in results.items():
        seconds = {rows: one.cpu_seconds for rows, one in by_rows.items()}
        last = {rows: seconds[rows] for rows in sizes[-2:]}
        cells = [
            *(f"{seconds[rows]:.1f}" for rows in sizes),
            f"{slope(seconds):.2f}",
            f"{slope(last):.2f}",
            f"{sizes[-1] / seconds[sizes[-1]]:,.0f}",
            *(f"{by_rows[rows].peak_mb:,.0f}" for rows in sizes),
            f"{by_rows[sizes[-1]].written_mb:,.0f}",
        ]
        lines.append(f"| `{stage}` | " + " | ".join(cells) + " |")
    kept = results["encode"][sizes[-1]].rows_kept
    lines += ["", f"Of {sizes[-1]:,} rows {kept:,} passed the checks.", ""]
    before, heading, after = RESULTS.read_text(encoding="utf-8").partition("\n## Scale\n")
    of_scale, following, rest = after.partition("\n## ")
    section = "\n" + of_scale.strip("\n") + "\n\n" + "\n".join(lines)
    RESULTS.write_text(before + heading + section + following + rest, encoding="utf-8")
    print("\n".join(lines))


def _draw(results: dict[str, dict[int, Measured]], sizes: list[int]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for stage, by_rows in results.items():
        rows = sorted(by_rows)
        seconds = {n: by_rows[n].cpu_seconds for n in rows}
        left.plot(rows, list(seconds.values()), marker="o", label=f"{stage} ({slope(seconds):.2f})")
        right.plot(rows, [by_rows[n].peak_mb for n in rows], marker="o", label=stage)
    left.set(xscale="log", yscale="log", xlabel="rows", ylabel="seconds of CPU time", title="time (slope)")
    right.set(xscale="log", xlabel="rows", ylabel="MB at most", title="memory")
    right.axhline(2048, linestyle=":", color="grey")
    right.set_ylim(0, 2200)
    for axes in (left, right):
        axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axes.minorticks_off()
    left.legend()
    figure.savefig(IMAGE, dpi=150)


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("rows", type=int, nargs="+")
    measuring.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    commands.add_parser("report")
    arguments = parser.parse_args()
    if arguments.command == "report":
        report()
        return
    WORK.mkdir(parents=True, exist_ok=True)
    _corpus(max(arguments.rows))
    for num_rows in arguments.rows:
        measure(num_rows, arguments.stages)


if __name__ == "__main__":
    main()
