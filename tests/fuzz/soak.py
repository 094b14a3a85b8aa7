"""Many fuzzed rows in one process: `python tests/fuzz/soak.py --rows 100000`.

Every file is read, split, checked and tokenized as the pipeline does. Any exception but ours ends it with a traceback,
and the file that did it is kept. Afterwards it says how many rows there were, what became of them, and how the memory
grew between the first tenth and the end.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from fuzzed_pipeline import FORMATS, outcome, write
from rows import Rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rows-in-file", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    process, started, first, slowest = psutil.Process(), time.process_time(), 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder, seed = Path(name), arguments.seed
        while counts["rows"] < arguments.rows:
            path = folder / f"corpus.{FORMATS[seed % len(FORMATS)]}"
            rows = Rows(seed)
            counts["rows"] += write(path, rows, arguments.rows_in_file)
            if seed % 5 == 0:
                path.write_bytes(rows.damaged(path.read_bytes()))
            before = time.process_time()
            try:
                found = outcome(path, folder / "work")
            except BaseException:
                shutil.copy(path, f"found-{seed}-{path.name}")
                print(f"seed {seed}: kept as found-{seed}-{path.name}", file=sys.stderr)
                raise
            slowest = max(slowest, time.process_time() - before)
            counts["files"] += 1
            if "refused" in found:
                counts["files refused"] += 1
            else:
                counts["rows read"] += found["read"]
                counts["rows kept"] += found["kept"]
                reasons += found["reasons"]
            if not first and counts["rows"] >= arguments.rows // 10:
                first = process.memory_info().rss
            seed += 1
        last = process.memory_info().rss
    print(", ".join(f"{what} {number:,}" for what, number in counts.items()))
    print(f"set aside {reasons.total():,}, by {len(reasons)} reasons: {dict(reasons.most_common())}")
    assert counts["rows read"] == counts["rows kept"] + reasons.total()
    print(f"{time.process_time() - started:.0f} s of CPU time, {slowest:.2f} s for the slowest file")
    print(
        f"memory {first / 1e6:.0f} MB after a tenth, {last / 1e6:.0f} MB at the end: {last / first - 1:+.1%}"
    )
    return 0 if last <= 1.1 * first else 1


if __name__ == "__main__":
    sys.exit(main())
