"""Recurrent layers of one direction: fused over all steps, or one step at a time.

No sequence is packed. `torch.nn.LSTM` is several times slower on packed sequences than on plain padded
tensors on a CPU, and what packing is good for can be had without: outputs are read at each row's own
last step, and the final cell state, which an LSTM does not output per step, is held through the padding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from precis.errors import PrecisError

CellState = tuple[Tensor, ...]
"""(h, c) of an LSTM, (h,) of the others; (B, H) each."""


def last_outputs(outputs: Tensor, lengths: Tensor) -> Tensor:
    """Each row's output at its own last word, (B, H), of time-major outputs (T, B, H); 0 for an empty row."""
    index = (lengths - 1).clamp(min=0)[None, :, None].expand(1, -1, outputs.shape[2])
    return outputs.gather(0, index).squeeze(0) * (lengths > 0)[:, None]


class LstmLayer(nn.Module):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with one bias per gate.

    Through padding the forget gate is held at 1 and the input gate at 0, so that the cell state after the
    last step is, to the last bit, that of each row's own last word.
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

    def forward(
        self, inputs: Tensor, initial: CellState | None, lengths: Tensor | None
    ) -> tuple[Tensor, CellState]:
        """All steps in one call.

        Args:
            inputs: (T, B, I).
            initial: (h, c); None: zeros.
            lengths: words of each row, (B,); None: all T.

        Returns:
            outputs (T, B, H), arbitrary but finite past a row's length, and each row's own final state.
        """
        w_ih: Tensor = self.w_ih
        if lengths is not None:
            is_padding = torch.arange(inputs.shape[0], device=inputs.device)[:, None] >= lengths  # (T, B)
            flags = inputs.new_zeros(*inputs.shape[:2], self.w_hold.shape[1])
            flags[..., 0] = is_padding
            inputs = torch.cat([inputs, flags], dim=2)
            w_ih = torch.cat([w_ih, self.w_hold], dim=1)
        h, c = initial if initial is not None else _zeros(inputs, self.hidden_size, 2)
        outputs, h_last, c_last = torch.lstm(
            inputs, (h[None], c[None]), (w_ih, self.w_hh, self.bias, self.w_zero), True, 1, 0.0,
            self.training, False, False,
        )  # fmt: skip
        h_final = h_last[0] if lengths is None else last_outputs(outputs, lengths)
        return outputs, (h_final, c_last[0])

    def step(self, inputs: Tensor, state: CellState) -> CellState:
        """One step of (N, I) inputs."""
        return torch.lstm_cell(inputs, state, self.w_ih, self.w_hh, self.bias, self.w_zero)


class GruLayer(nn.Module):
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

    def forward(
        self, inputs: Tensor, initial: CellState | None, lengths: Tensor | None
    ) -> tuple[Tensor, CellState]:
        """All steps in one call, as LstmLayer does it."""
        (h,) = initial if initial is not None else _zeros(inputs, self.hidden_size, 1)
        weights = (self.w_ih, self.w_hh, self.b_ih, self.b_hh)
        outputs, h_last = torch.gru(inputs, h[None], weights, True, 1, 0.0, self.training, False, False)
        return outputs, (h_last[0] if lengths is None else last_outputs(outputs, lengths),)

    def step(self, inputs: Tensor, state: CellState) -> CellState:
        """One step of (N, I) inputs."""
        return (torch.gru_cell(inputs, state[0], self.w_ih, self.w_hh, self.b_ih, self.b_hh),)


class RnnLayer(nn.Module):
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

    def forward(
        self, inputs: Tensor, initial: CellState | None, lengths: Tensor | None
    ) -> tuple[Tensor, CellState]:
        """All steps in one call, as LstmLayer does it."""
        (h,) = initial if initial is not None else _zeros(inputs, self.hidden_size, 1)
        weights = (self.w_ih, self.w_hh, self.bias, self.w_zero)
        outputs, h_last = torch.rnn_tanh(inputs, h[None], weights, True, 1, 0.0, self.training, False, False)
        return outputs, (h_last[0] if lengths is None else last_outputs(outputs, lengths),)

    def step(self, inputs: Tensor, state: CellState) -> CellState:
        """One step of (N, I) inputs."""
        return (torch.rnn_tanh_cell(inputs, state[0], self.w_ih, self.w_hh, self.bias, self.w_zero),)


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
    """Dropout whose mask is the same at every step of a sequence (Gal and Ghahramani, 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: (T, B, F), time-major."""
        if not self.training or self.rate == 0:
            return inputs
        keep = torch.empty(inputs.shape[1:], dtype=inputs.dtype, device=inputs.device)
        return inputs * keep.bernoulli_(1 - self.rate).div_(1 - self.rate)


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
            inputs, _ = layer(inputs, None if initial is None else initial[number], None)
        return inputs

    def step(self, inputs: Tensor, states: list[CellState]) -> list[CellState]:
        """One step of (N, I) inputs through all layers, without dropout."""
        after = []
        for layer, state in zip(self.layers, states, strict=True):
            new = layer.step(inputs, state)  # type: ignore[operator]
            after.append(new)
            inputs = new[0]
        return after


def _zeros(inputs: Tensor, hidden_size: int, num_states: int) -> CellState:
    return tuple(inputs.new_zeros(inputs.shape[1], hidden_size) for _ in range(num_states))


def _initialise(layer: nn.Module, hidden_size: int) -> None:
    bound = 1 / math.sqrt(hidden_size)
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -bound, bound)
