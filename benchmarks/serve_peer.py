"""OpenNMT-py's translator for serve_speed.py, run by its own interpreter.

python serve_peer.py WORKLOAD, then on each line of standard input the number of documents of a batch; it answers with a
line of JSON on standard output, the seconds of every batch and the number of documents.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from decode_worker import _part, cut, opennmt_side
from speed_data import Workload


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    workload = Workload.load(Path(sys.argv[1]))
    sides = {}
    for size in (1, 2, 8):
        part = cut(workload, size)
        turn = opennmt_side(part, frozenset())
        # a turn goes through these lists, so one batch in them makes a turn of one batch
        sides[size] = turn, part.batches, list(part.batches), _part(turn, "batches")
    tensors = {size: list(side[3]) for size, side in sides.items()}
    print("[]", flush=True)
    for line in sys.stdin:
        size = int(line)
        turn, rows, all_rows, batches = sides[size]
        took, documents = [], 0
        for row, batch in zip(all_rows, tensors[size], strict=True):
            rows[:], batches[:] = [row], [batch]
            start = time.perf_counter()
            documents += turn(True)
            took.append(time.perf_counter() - start)
        print(json.dumps([took, documents]), flush=True)


if __name__ == "__main__":
    main()
