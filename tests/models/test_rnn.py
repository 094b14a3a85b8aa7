"""Recurrent layers: exact on rows of unlike length, fused equal to step by step."""

import pytest
import torch
from torch import nn

from precis.errors import PrecisError
from precis.models.encoder import Encoder
from precis.models.rnn import CELLS, RecurrentStack, SharedDropout, recurrent_layer
from precis.models.segments import Segments

LENGTHS = [9, 4, 1, 30, 12, 30, 17, 2, 5, 23, 11]


def padded(lengths, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    # what lies at padding must not matter: make it large
    x = torch.randn(len(lengths), max(lengths), size, generator=generator) * 3
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.where(mask[:, :, None], x, 50.0), mask


def in_segments(x, segments):
    return x.flatten(0, 1)[segments.cells]


@pytest.mark.parametrize("cell", CELLS)
def test_each_row_ends_in_the_state_that_it_has_alone(cell):
    torch.manual_seed(1)
    layer = recurrent_layer(cell, 5, 7)
    x, _ = padded(LENGTHS, 5)
    segments = Segments.of(torch.tensor(LENGTHS), x.shape[1])
    flat, state = layer.read(in_segments(x, segments), segments)
    outputs = segments.pad(flat)
    for row, length in enumerate(LENGTHS):
        alone, final = layer(x[row, :length, None], None)
        torch.testing.assert_close(outputs[row, :length], alone[:, 0], atol=1e-6, rtol=0)
        for part, alone_part in zip(state, final, strict=True):
            torch.testing.assert_close(part[row], alone_part[0], atol=1e-6, rtol=0)
    assert len(segments.blocks) > 1
    assert outputs.isfinite().all()


def test_the_lstm_equals_torch_on_a_packed_sequence():
    torch.manual_seed(2)
    layer = recurrent_layer("lstm", 6, 8)
    peer = nn.LSTM(6, 8, batch_first=True)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(layer.w_ih)
        peer.weight_hh_l0.copy_(layer.w_hh)
        peer.bias_ih_l0.copy_(layer.bias)
        peer.bias_hh_l0.zero_()
    x, mask = padded(LENGTHS, 6)
    lengths = torch.tensor(LENGTHS)
    segments = Segments.of(lengths, x.shape[1])
    flat, (h, c) = layer.read(in_segments(x, segments), segments)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, (expected_h, expected_c) = peer(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(expected, batch_first=True)
    got = segments.pad(flat)
    torch.testing.assert_close(got[mask], expected[mask], atol=1e-6, rtol=0)
    torch.testing.assert_close(h, expected_h[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(c, expected_c[0], atol=1e-6, rtol=0)
    # and the gradients, through outputs and both final states
    weights = torch.randn(got.shape) * mask[:, :, None]
    ((got * weights).sum() + h.square().sum() + c.sin().sum()).backward()
    ((expected * weights).sum() + expected_h[0].square().sum() + expected_c[0].sin().sum()).backward()
    torch.testing.assert_close(layer.w_ih.grad, peer.weight_ih_l0.grad, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(layer.w_hh.grad, peer.weight_hh_l0.grad, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(layer.bias.grad, peer.bias_ih_l0.grad, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 3])
def test_one_step_at_a_time_equals_the_fused_call(cell, num_layers):
    torch.manual_seed(3)
    stack = RecurrentStack(cell, 5, 7, num_layers, dropout=0.5).eval()
    inputs = torch.randn(6, 4, 5)
    states = [tuple(torch.randn(4, 7) for _ in range(stack.num_states)) for _ in range(num_layers)]
    fused = stack(inputs, states)
    for t in range(6):
        states = stack.step(inputs[t], states)
        torch.testing.assert_close(states[-1][0], fused[t], atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_encoder_reads_a_row_alike_alone_and_in_any_batch(cell, num_layers, bidirectional):
    torch.manual_seed(4)
    encoder = Encoder(cell, 5, 3, num_layers, bidirectional, dropout=0.5).eval()
    x, _ = padded(LENGTHS, 5)
    segments = Segments.of(torch.tensor(LENGTHS), x.shape[1])
    flat, finals = encoder(in_segments(x, segments), segments)
    states = segments.pad(flat)
    for row, length in enumerate(LENGTHS):
        alone = Segments.of(torch.tensor([length]), length)
        expected, expected_finals = encoder(x[row, :length], alone)
        torch.testing.assert_close(states[row, :length], expected, atol=1e-6, rtol=0)
        for final, expected_final in zip(finals, expected_finals, strict=True):
            for part, expected_part in zip(final, expected_final, strict=True):
                torch.testing.assert_close(part[row], expected_part[0], atol=1e-6, rtol=0)


def test_the_backward_direction_ends_at_the_first_word():
    torch.manual_seed(5)
    encoder = Encoder("lstm", 5, 3, 1, True, dropout=0.0)
    x, _ = padded(LENGTHS, 5)
    segments = Segments.of(torch.tensor(LENGTHS), x.shape[1])
    flat, finals = encoder(in_segments(x, segments), segments)
    states = segments.pad(flat)
    torch.testing.assert_close(finals[0][0][:, 3:], states[:, 0, 3:])


def test_segments_cover_each_word_once_and_most_padding_never():
    lengths = torch.tensor(LENGTHS)
    segments = Segments.of(lengths, 30)
    assert len(segments.cells.unique()) == len(segments.cells)
    held = 0 if segments.held is None else int(segments.held.sum())
    assert len(segments.cells) - held == sum(LENGTHS)
    assert held < (len(LENGTHS) * 30 - sum(LENGTHS)) / 3
    again = segments.reversal[segments.reversal]
    torch.testing.assert_close(again, torch.arange(len(again)))


def test_rows_of_one_length_are_one_segment_without_padding():
    segments = Segments.of(torch.tensor([6, 6, 6]), 6)
    assert segments.blocks == [(6, 3)]
    assert segments.held is None


def test_an_empty_row_is_read_as_one_word_of_padding():
    segments = Segments.of(torch.tensor([2, 0]), 2)
    assert segments.last_cells.tolist() == [int(segments.places[1]), int(segments.places[2])]


def test_shared_dropout_drops_the_same_features_at_every_step_of_a_row():
    torch.manual_seed(6)
    dropout = SharedDropout(0.5)
    dropped = dropout(torch.ones(4, 3, 10))
    assert (dropped == dropped[:1]).all()
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    segments = Segments.of(torch.tensor([4, 2, 3]), 4)
    flat = dropout(torch.ones(len(segments.cells), 10), segments)
    rows = segments.cells // 4
    for row in range(3):
        assert (flat[rows == row] == flat[rows == row][:1]).all()
    assert dropout.eval()(flat) is flat


def test_a_cell_that_there_is_not_is_named():
    with pytest.raises(PrecisError, match=r"'qrnn'.*gru, lstm, rnn"):
        recurrent_layer("qrnn", 1, 1)
