"""The encoder: recurrent layers in one or both directions, exact on padded batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from precis.models.rnn import CellState, SharedDropout, recurrent_layer
from precis.models.rows import permute_rows
from precis.models.segments import Segments


class Encoder(nn.Module):
    """Reads the source words into encoder states h_i.

    The backward direction is a second forward net over each source reversed within its length.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.output_size = hidden_size * (2 if bidirectional else 1)
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        self.forwards = nn.ModuleList(recurrent_layer(cell, size, hidden_size) for size in sizes)
        self.backwards = nn.ModuleList(
            recurrent_layer(cell, size, hidden_size) for size in sizes if bidirectional
        )
        self.dropout = SharedDropout(dropout)

    def forward(self, inputs: Tensor, segments: Segments) -> tuple[Tensor, list[CellState]]:
        """Read a batch.

        Args:
            inputs: embedded words in the order of the segments, (M, E).
            segments: of the batch.

        Returns:
            encoder states in the same order (M, D*H), D directions; and for each layer each row's own final
            state, rows in their own order and both directions side by side, (B, D*H).
        """
        finals: list[CellState] = []
        for number, layer in enumerate(self.forwards):
            if number > 0:
                inputs = self.dropout(inputs, segments)
            outputs, final = layer.read(inputs, segments)  # type: ignore[operator]
            if len(self.backwards):
                backward = self.backwards[number]
                back_outputs, back_final = backward.read(permute_rows(inputs, segments.reversal), segments)  # type: ignore[operator]
                outputs = torch.cat([outputs, permute_rows(back_outputs, segments.reversal)], dim=1)
                final = tuple(torch.cat(pair, dim=1) for pair in zip(final, back_final, strict=True))
            inputs = outputs
            finals.append(final)
        return inputs, finals


class Bridge(nn.Module):
    """The decoder's first state from the encoder's last: relu(W h + b) (the reducers of See et al., 2017)."""

    def __init__(self, encoder_size: int, decoder_size: int, num_layers: int, num_states: int) -> None:
        super().__init__()
        self.num_states = num_states
        self.reducers = nn.ModuleList(
            nn.Linear(encoder_size, decoder_size) for _ in range(num_layers * num_states)
        )

    def forward(self, finals: list[CellState]) -> list[CellState]:
        """(B, D*H) states to (B, decoder size) states, layer by layer."""
        flat = [state for final in finals for state in final]
        reduced = [torch.relu(reduce(state)) for reduce, state in zip(self.reducers, flat, strict=True)]
        return [tuple(reduced[i : i + self.num_states]) for i in range(0, len(reduced), self.num_states)]
