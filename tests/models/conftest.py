"""One thread: the machine that tests is often shared, and small tensors gain nothing from more."""

import torch

torch.set_num_threads(1)
