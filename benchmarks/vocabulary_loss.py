"""Memory and time of the vocabulary loss, forward and backward: precis against log_softmax and autograd.

python benchmarks/vocabulary_loss.py [ROWS] [VOCABULARY]; each side in a process of its own, one thread, CPU time.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import torch

from precis.models.losses import mixture_nll


def main() -> None:
    rows, vocabulary = int((sys.argv[1:] or ["1600"])[0]), int((sys.argv[2:] or ["50000"])[0])
    if len(sys.argv) < 4:
        for side in ("log_softmax", "precis"):
            arguments = [sys.executable, __file__, str(rows), str(vocabulary), side]
            print(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout, end="")
        return
    torch.set_num_threads(1)
    readout = torch.randn(rows, 256, requires_grad=True)
    weight = (torch.randn(vocabulary, 256) * 0.1).requires_grad_()
    bias = torch.zeros(vocabulary, requires_grad=True)
    targets = torch.randint(0, vocabulary, (rows,))
    log_gen, log_copied = torch.full((rows,), -0.3), torch.full((rows,), -5.0)
    row_weights = torch.full((rows,), 1 / rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        readout.grad = weight.grad = bias.grad = None
        start = time.process_time()
        if sys.argv[3] == "precis":
            loss, _ = mixture_nll(readout, weight, bias, targets, log_gen, log_copied, row_weights, 0.0)
        else:
            log_probs = torch.log_softmax(torch.nn.functional.linear(readout, weight, bias), 1)
            generated = log_gen + log_probs.gather(1, targets[:, None]).squeeze(1)
            loss = -(torch.logaddexp(generated, log_copied) * row_weights).sum()
        loss.backward()
        times.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    logits = rows * vocabulary * 4 / 2**20
    print(
        f"{sys.argv[3]}: {min(times):.2f} s, {peak / 1024:,.0f} MB above the inputs; logits are {logits:,.0f} MB"
    )


if __name__ == "__main__":
    main()
