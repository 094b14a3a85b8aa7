"""From what the decoder knows to P_vocab."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OutputLayer(nn.Module):
    """P_vocab = softmax(V (W features + b) + b') (See et al., 2017, eq. 4), or with a tanh in between.

    Args:
        features_size: F.
        readout_size: R, the size between the two layers.
        vocabulary_size: V.
        readout: tanh (Luong et al., 2015, eq. 5) or linear (See et al., 2017).
        tied: the matrix V is the target embedding and given with each call; R must be its width.
        dropout: on the readout.
    """

    def __init__(
        self,
        features_size: int,
        readout_size: int,
        vocabulary_size: int,
        readout: str,
        tied: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.readout = nn.Linear(features_size, readout_size)
        self.activation: nn.Module = nn.Tanh() if readout == "tanh" else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.weight = None if tied else nn.Parameter(torch.randn(vocabulary_size, readout_size) * 0.1)
        self.bias = nn.Parameter(torch.zeros(vocabulary_size))

    def read_out(self, features: Tensor) -> Tensor:
        """What is multiplied by the matrix V, (..., R)."""
        read: Tensor = self.dropout(self.activation(self.readout(features)))
        return read

    def matrix(self, embedding: Tensor) -> Tensor:
        """The matrix V: its own, or the target embedding if they are tied, (V, R)."""
        return embedding if self.weight is None else self.weight

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Log P_vocab, (..., V)."""
        return word_log_probs(self.read_out(features), self.matrix(embedding), self.bias)


def word_log_probs(readout: Tensor, matrix: Tensor, bias: Tensor) -> Tensor:
    """Log P_vocab of readouts (..., R), in float32 at least, (..., V)."""
    logits = nn.functional.linear(readout, matrix, bias)
    return torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, dim=-1)
