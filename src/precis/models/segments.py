"""Rows of unlike length without padding them all to the longest.

A padded batch of mixed lengths is half padding, and a packed sequence is slow (see `rnn`). So the rows are sorted by
length, longest first, and time is cut where many rows end: each segment is a full block of steps and
rows, and a later segment has fewer rows. What is left of the padding lies at the ends of rows that stop
inside of a segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_MOST_SEGMENTS = 6
_LEAST_STEPS = 4  # of a segment: a shorter one costs more in calls than it saves in padding


@dataclass(frozen=True)
class Segments:
    """A batch as blocks of (step, row) cells.

    All cells in order of segment, step and row (longest row first) make a flat tensor of M rows.

    Attributes:
        shape: (B, S) of the padded batch.
        blocks: (steps, rows) of each segment.
        cells: where each cell is in the flattened padded batch (B*S), (M,).
        places: the cell of each position of the flattened padded batch, any cell at padding, (B*S,).
        reversal: the cell that each cell changes places with if rows are reversed within their lengths, (M,).
        last_cells: the cell of the last word of each row, in the rows' own order, (B,).
        held: True at cells past the end of their row, (M,); None if there are none.
        order: the row's number in the batch of each sorted row, (B,).
        ranks: the way back: the place of each row among the sorted rows, (B,).
    """

    shape: tuple[int, int]
    blocks: list[tuple[int, int]]
    cells: Tensor
    places: Tensor
    reversal: Tensor
    last_cells: Tensor
    held: Tensor | None
    order: Tensor
    ranks: Tensor

    @classmethod
    def of(cls, lengths: Tensor, num_steps: int) -> Segments:
        """Cut a batch with these row lengths (B,), padded to `num_steps`; an empty row counts as one word.

        On a CPU only. Elsewhere it is one segment: to look at the lengths would wait for the device.
        """
        device = lengths.device
        lengths = lengths.clamp(min=1)
        batch_size = len(lengths)
        if device.type == "cpu":
            order = torch.argsort(lengths, descending=True, stable=True)
            blocks = _cut(lengths[order].tolist())
        else:
            order = torch.arange(batch_size, device=device)
            blocks = [(num_steps, batch_size)]
        steps, sorted_rows = [], []
        start = 0
        for num_block_steps, num_rows in blocks:
            block_steps = torch.arange(start, start + num_block_steps, device=device)
            steps.append(block_steps.repeat_interleave(num_rows))
            sorted_rows.append(torch.arange(num_rows, device=device).repeat(num_block_steps))
            start += num_block_steps
        step, rows = torch.cat(steps), order[torch.cat(sorted_rows)]  # (M,)
        row_lengths = lengths[rows]
        cells = rows * num_steps + step
        places = torch.zeros(batch_size * num_steps, dtype=torch.long, device=device)
        places[cells] = torch.arange(len(cells), device=device)
        held = step >= row_lengths
        reversed_step = torch.where(held, step, row_lengths - 1 - step)
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(batch_size, device=device)
        return cls(
            shape=(batch_size, num_steps),
            blocks=blocks,
            cells=cells,
            places=places,
            reversal=places[rows * num_steps + reversed_step],
            last_cells=places[torch.arange(batch_size, device=device) * num_steps + lengths - 1],
            held=held if device.type != "cpu" or bool(held.any()) else None,
            order=order,
            ranks=ranks,
        )

    @property
    def sizes(self) -> list[int]:
        """Cells of each segment."""
        return [steps * rows for steps, rows in self.blocks]

    def pick(self, padded: Tensor) -> Tensor:
        """The cells of a padded (B, S) tensor without gradient, (M,)."""
        return padded.flatten()[self.cells]

    def pad(self, flat: Tensor) -> Tensor:
        """A flat (M, F) tensor as a padded batch (B, S, F), arbitrary but finite at padding."""
        padded: Tensor = _Pad.apply(flat, self.places, self.cells)  # type: ignore[no-untyped-call]
        return padded.view(*self.shape, flat.shape[1])


class _Pad(torch.autograd.Function):
    """flat[places]; what comes back from padding is no part of any loss and left out."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, places: Tensor, cells: Tensor) -> Tensor:
        ctx.save_for_backward(cells)
        return flat.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (cells,) = ctx.saved_tensors
        return grad.index_select(0, cells), None, None


def _cut(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(steps, rows) of each segment for sorted lengths, longest first: cuts where a sixth of the rows ends."""
    num_rows = len(lengths)
    ends = {lengths[0]}
    last = 0
    for number in range(1, _MOST_SEGMENTS):
        end = lengths[num_rows - 1 - (number * num_rows) // _MOST_SEGMENTS]
        if end - last >= _LEAST_STEPS and lengths[0] - end >= _LEAST_STEPS:
            ends.add(end)
            last = end
    blocks = []
    start = 0
    for end in sorted(ends):
        blocks.append((end - start, sum(length > start for length in lengths)))
        start = end
    return blocks
