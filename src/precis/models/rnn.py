"""Recurrent layers of one direction: fused over all steps, or one step at a time.

No sequence is packed. `torch.nn.LSTM` is several times slower on packed sequences than on plain padded
tensors on a CPU, and what packing is good for can be had without: `segments` leaves little padding, outputs are
read at each row's own last word, and the final cell state, which an LSTM does not output for each step, is
held through the padding that is left.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from precis.errors import PrecisError
from precis.models.rows import take_rows
from precis.models.segments import Segments

CellState = tuple[Tensor, ...]
"""(h, c) of an LSTM, (h,) of the others; (B, H) each."""


class _Layer(nn.Module):
    """What the cells have in common: states of one or two parts, and reading rows of unlike length."""

    num_states: int
    hidden_size: int
    w_ih: nn.Parameter

    def forward(self, inputs: Tensor, initial: CellState | None) -> tuple[Tensor, CellState]:
        """All steps in one call.

        Args:
            inputs: (T, B, I).
            initial: state of (B, H) parts; None: zeros.

        Returns:
            outputs (T, B, H) and the state after the last step.
        """
        initial = self._zeros(inputs, inputs.shape[1]) if initial is None else initial
        return self._run(inputs, initial, self.w_ih)

    def read(self, inputs: Tensor, segments: Segments) -> tuple[Tensor, CellState]:
        """All words of rows of unlike length, from a state of zeros.

        Args:
            inputs: (M, I), in the order of the segments.
            segments: of the batch.

        Returns:
            outputs (M, H), and each row's own state after its last word, rows in their own order.
        """
        w_ih: Tensor = self.w_ih
        if segments.held is not None:
            inputs, w_ih = self._hold(inputs, segments.held)
        state = self._zeros(inputs, segments.blocks[0][1])
        parts, ends = [], []
        blocks = zip(torch.split(inputs, segments.sizes), segments.blocks, strict=True)
        for block, (num_steps, num_rows) in blocks:
            if num_rows < len(state[0]):  # the others have ended
                ends.append(state[-1][num_rows:])
                state = tuple(part[:num_rows] for part in state)
            outputs, state = self._run(block.view(num_steps, num_rows, -1), state, w_ih)
            parts.append(outputs.flatten(0, 1))
        flat = torch.cat(parts) if len(parts) > 1 else parts[0]
        h = take_rows(flat, segments.last_cells)
        if self.num_states == 1:
            return flat, (h,)
        ends.append(state[-1])
        return flat, (h, take_rows(torch.cat(ends[::-1]), segments.ranks))

    def _run(self, inputs: Tensor, state: CellState, w_ih: Tensor) -> tuple[Tensor, CellState]:
        raise NotImplementedError

    def _hold(self, inputs: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and weights that keep, where `held`, what the outputs do not tell of the state; here nothing."""
        return inputs, self.w_ih

    def _zeros(self, inputs: Tensor, num_rows: int) -> CellState:
        return tuple(inputs.new_zeros(num_rows, self.hidden_size) for _ in range(self.num_states))


class LstmLayer(_Layer):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with one bias per gate.

    Past the end of a row the forget gate is held at 1 and the input gate at 0, so that the cell state after the
    last step is, to the last bit, that of the row's last word.
    """

    num_states = 2
    _HOLD = 1e4  # far outside of what a gate sees, inside float16: the sigmoid is exactly 0 or 1
    _ALIGNMENT = 16  # floats in a vector register: an odd input width would slow the product down

    w_zero: Tensor
    w_hold: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.w_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))  # gates in the order i, f, g, o
        self.w_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        num_columns = self._ALIGNMENT - input_size % self._ALIGNMENT
        w_hold = torch.zeros(4 * hidden_size, num_columns)
        w_hold[:hidden_size, 0] = -self._HOLD
        w_hold[hidden_size : 2 * hidden_size, 0] = self._HOLD
        self.register_buffer("w_hold", w_hold, persistent=False)
        self.register_buffer("w_zero", torch.zeros(4 * hidden_size), persistent=False)
        _initialise(self, hidden_size)
        with torch.no_grad():
            self.bias[hidden_size : 2 * hidden_size] = 1.0  # remember, until taught to forget

    def step(self, inputs: Tensor, state: CellState) -> CellState:
        """One step of (N, I) inputs."""
        return torch.lstm_cell(inputs, state, self.w_ih, self.w_hh, self.bias, self.w_zero)

    def _run(self, inputs: Tensor, state: CellState, w_ih: Tensor) -> tuple[Tensor, CellState]:
        h, c = state
        outputs, h, c = torch.lstm(
            inputs, (h[None], c[None]), (w_ih, self.w_hh, self.bias, self.w_zero), True, 1, 0.0,
            self.training, False, False,
        )  # fmt: skip
        return outputs, (h[0], c[0])

    def _hold(self, inputs: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        flags = inputs.new_zeros(len(inputs), self.w_hold.shape[1])
        flags[:, 0] = held
        return torch.cat([inputs, flags], dim=1), torch.cat([self.w_ih, self.w_hold], dim=1)


class GruLayer(_Layer):
    """Gated recurrent unit (Cho et al., 2014), as in cuDNN: the reset gate comes after the product."""

    num_states = 1

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.w_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.w_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.b_ih = nn.Parameter(torch.empty(3 * hidden_size))
        self.b_hh = nn.Parameter(
            torch.empty(3 * hidden_size)
        )  # inside of the reset gate: not the same as b_ih
        _initialise(self, hidden_size)

    def step(self, inputs: Tensor, state: CellState) -> CellState:
        """One step of (N, I) inputs."""
        return (torch.gru_cell(inputs, state[0], self.w_ih, self.w_hh, self.b_ih, self.b_hh),)

    def _run(self, inputs: Tensor, state: CellState, w_ih: Tensor) -> tuple[Tensor, CellState]:
        weights = (w_ih, self.w_hh, self.b_ih, self.b_hh)
        outputs, h = torch.gru(inputs, state[0][None], weights, True, 1, 0.0, self.training, False, False)
        return outputs, (h[0],)


class RnnLayer(_Layer):
    """Elman network: h_t = tanh(W x_t + U h_{t-1} + b)."""

    num_states = 1

    w_zero: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.w_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.w_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(hidden_size))
        self.register_buffer("w_zero", torch.zeros(hidden_size), persistent=False)
        _initialise(self, hidden_size)

    def step(self, inputs: Tensor, state: CellState) -> CellState:
        """One step of (N, I) inputs."""
        return (torch.rnn_tanh_cell(inputs, state[0], self.w_ih, self.w_hh, self.bias, self.w_zero),)

    def _run(self, inputs: Tensor, state: CellState, w_ih: Tensor) -> tuple[Tensor, CellState]:
        weights = (w_ih, self.w_hh, self.bias, self.w_zero)
        outputs, h = torch.rnn_tanh(
            inputs, state[0][None], weights, True, 1, 0.0, self.training, False, False
        )
        return outputs, (h[0],)


CELLS: dict[str, type[LstmLayer] | type[GruLayer] | type[RnnLayer]] = {
    "rnn": RnnLayer,
    "gru": GruLayer,
    "lstm": LstmLayer,
}


def recurrent_layer(cell: str, input_size: int, hidden_size: int) -> LstmLayer | GruLayer | RnnLayer:
    """A layer by the name of its cell; PrecisError for a name that there is not."""
    if cell not in CELLS:
        raise PrecisError(f"cell is {cell!r}; expected one of {', '.join(sorted(CELLS))}")
    return CELLS[cell](input_size, hidden_size)


class SharedDropout(nn.Module):
    """Dropout whose mask is the same at every step of a row (Gal and Ghahramani, 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Tensor, segments: Segments | None = None) -> Tensor:
        """Drop features of (T, B, F) inputs, or of (M, F) inputs in the order of segments."""
        if not self.training or self.rate == 0:
            return inputs
        num_rows = inputs.shape[1] if segments is None else segments.shape[0]
        keep = torch.empty(num_rows, inputs.shape[-1], dtype=inputs.dtype, device=inputs.device)
        keep.bernoulli_(1 - self.rate).div_(1 - self.rate)
        return inputs * (keep if segments is None else keep[segments.cells // segments.shape[1]])


class RecurrentStack(nn.Module):
    """Recurrent layers above each other, dropout between them."""

    def __init__(self, cell: str, input_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        sizes = [input_size] + [hidden_size] * (num_layers - 1)
        self.layers = nn.ModuleList(recurrent_layer(cell, size, hidden_size) for size in sizes)
        self.dropout = SharedDropout(dropout)
        self.hidden_size = hidden_size
        self.num_states: int = CELLS[cell].num_states

    def forward(self, inputs: Tensor, initial: list[CellState] | None) -> Tensor:
        """The top layer's outputs (T, B, H) for inputs (T, B, I), one fused call for each layer."""
        for number, layer in enumerate(self.layers):
            if number > 0:
                inputs = self.dropout(inputs)
            inputs, _ = layer(inputs, None if initial is None else initial[number])
        return inputs

    def step(self, inputs: Tensor, states: list[CellState]) -> list[CellState]:
        """One step of (N, I) inputs through all layers, without dropout."""
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            new = layer.step(inputs, state)  # type: ignore[operator]
            after.append(new)
            inputs = new[0]
        return after


def _initialise(layer: nn.Module, hidden_size: int) -> None:
    bound = 1 / math.sqrt(hidden_size)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound)
