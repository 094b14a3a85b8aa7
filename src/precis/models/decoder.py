"""The decoder with attention: all steps at once with teacher forcing, or one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from precis.models.attention import Attention, masked_log_softmax
from precis.models.base import Memory, State
from precis.models.coverage import attend_with_coverage
from precis.models.rnn import CellState, RecurrentStack


@dataclass(frozen=True)
class Decoded:
    """What the decoder made of T steps, or of one step of K beams (then T is K).

    Attributes:
        inputs: x_t, after the merge with the context if that is fed back, (B, T, E).
        query: what the attention was asked with: s_t, or (c_t, s_t) with `attend_with_cell`, (B, T, Q).
        context: h*_t, (B, T, C).
        log_attention: log a^t, -inf at padding, (B, T, S).
        coverage_loss: sum of min(a_i, c_i), (B, T); None without coverage.
        features: what the readout reads: s_t, h*_t and the intra-decoder context, if there is one, (B, T, F).
    """

    inputs: Tensor
    query: Tensor
    context: Tensor
    log_attention: Tensor
    coverage_loss: Tensor | None
    features: Tensor


class AttentionDecoder(nn.Module):
    """Recurrent decoder that attends to the encoder states (Luong et al., 2015; See et al., 2017).

    With the previous word as the only input of the recurrent layers, they run through all T steps in one
    fused call, and attention is one batched product. `input_feeding` (the context of the step before is
    merged into the input) and `attend_with_cell` (an LSTM's cell state is part of the query) need a loop.

    Args:
        cell: rnn, gru or lstm.
        embedding_size: E.
        hidden_size: of the decoder, H.
        num_layers: recurrent layers.
        encoder_size: of an encoder state, C.
        attention: score mode.
        coverage: attention knows what it attended to before.
        input_feeding: merge the context of the step before into the input (as See et al. do).
        attend_with_cell: query with (c, h), as See et al. do, and not with h.
        intra_attention: attend to the decoder's own earlier states, too (Paulus et al., 2018).
        dropout: between the layers.
    """

    def __init__(
        self,
        cell: str,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        encoder_size: int,
        attention: str,
        coverage: bool,
        input_feeding: bool,
        attend_with_cell: bool,
        intra_attention: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.rnn = RecurrentStack(cell, embedding_size, hidden_size, num_layers, dropout)
        self.query_size = hidden_size * (2 if attend_with_cell else 1)
        self.attention = Attention(
            score_mode=attention, query_size=self.query_size, key_size=encoder_size, coverage=coverage
        )
        self.merge = nn.Linear(embedding_size + encoder_size, embedding_size) if input_feeding else None
        self.attend_with_cell = attend_with_cell
        self.intra_attention = (
            Attention(score_mode="general", query_size=hidden_size, key_size=hidden_size)
            if intra_attention
            else None
        )
        self.hidden_size = hidden_size
        self.encoder_size = encoder_size
        self.features_size = hidden_size + encoder_size + (hidden_size if intra_attention else 0)

    @property
    def stepwise(self) -> bool:
        """True if teacher forcing needs a loop over the steps."""
        return self.merge is not None or self.attend_with_cell

    def forward(
        self,
        embedded: Tensor,
        states: list[CellState],
        memory: Memory,
        coverage_on: bool,
        sizes: Sequence[tuple[int, int]] | None,
    ) -> Decoded:
        """All steps with teacher forcing.

        Args:
            embedded: the words before, time-major, (T, B, E).
            states: first state of each layer.
            memory: encoder_states (B, S, C), keys and mask.
            coverage_on: attend with coverage.
            sizes: target and source words of each document; None: all are needed. What lies outside is arbitrary.
        """
        if self.stepwise:
            return self._loop(embedded, states, memory, coverage_on)
        outputs = self.rnn(embedded, states).transpose(0, 1)  # (B, T, H)
        queries = self.attention.project_queries(outputs)
        coverage_loss = None
        if coverage_on:
            log_attention, coverage_loss = attend_with_coverage(
                self.attention, queries, memory["keys"], memory["mask"], sizes
            )
        else:
            scores = self.attention.scores(queries, memory["keys"], sizes=sizes)
            log_attention = masked_log_softmax(scores, memory["mask"][:, None])
        context = log_attention.exp().to(outputs.dtype) @ memory["encoder_states"]
        features = [outputs, context]
        if self.intra_attention is not None:
            features.append(self._attend_to_past(outputs))
        return Decoded(
            inputs=embedded.transpose(0, 1),
            query=outputs,
            context=context,
            log_attention=log_attention,
            coverage_loss=coverage_loss,
            features=torch.cat(features, dim=2),
        )

    def initial_state(self, memory: Memory, beams: int, coverage_on: bool) -> State:
        """The state before the first step, for K beams of each document."""
        hidden = memory["hidden"]  # (B, L, H)
        batch_size = hidden.shape[0]
        state = {"hidden": hidden[:, None].expand(-1, beams, -1, -1)}
        if "cell" in memory:
            state["cell"] = memory["cell"][:, None].expand(-1, beams, -1, -1)
        if self.merge is not None:
            state["context"] = hidden.new_zeros(batch_size, beams, self.encoder_size)
        if coverage_on:
            state["coverage"] = hidden.new_zeros(batch_size, beams, memory["mask"].shape[1])
        if self.intra_attention is not None:
            state["past"] = hidden.new_zeros(batch_size, beams, 0, self.hidden_size)
        return state

    def step(self, embedded: Tensor, state: State, memory: Memory) -> tuple[Decoded, State]:
        """One step of K beams, embedded (B, K, E); coverage is on if the state has it."""

        def scores(queries: Tensor, coverage: Tensor | None) -> Tensor:
            return self.attention.scores(queries, memory["keys"], coverage)

        return self._advance(embedded, state, memory, scores)

    def _advance(
        self,
        embedded: Tensor,
        state: State,
        memory: Memory,
        scores_of: Callable[[Tensor, Tensor | None], Tensor],
    ) -> tuple[Decoded, State]:
        batch_size, beams, _ = embedded.shape
        inputs = embedded
        if self.merge is not None:
            inputs = self.merge(torch.cat([embedded, state["context"]], dim=2))
        before = unstack_states(state)
        after = self.rnn.step(inputs.flatten(0, 1), before)
        new_state = stack_states(after, batch_size, beams)
        output = after[-1][0].view(batch_size, beams, -1)
        query = output
        if self.attend_with_cell:
            query = torch.cat([after[-1][1].view(batch_size, beams, -1), output], dim=2)
        coverage = state.get("coverage")
        scores = scores_of(self.attention.project_queries(query), coverage)
        log_attention = masked_log_softmax(scores, memory["mask"][:, None])
        attention = log_attention.exp()
        coverage_loss = None
        if coverage is not None:
            coverage_loss = torch.minimum(attention, coverage).sum(dim=2)
            new_state["coverage"] = coverage + attention
        context = attention.to(output.dtype) @ memory["encoder_states"]
        features = [output, context]
        if self.merge is not None:
            new_state["context"] = context
        if self.intra_attention is not None:
            past = state["past"]
            features.append(self._attend_to(output, past))
            new_state["past"] = torch.cat([past, output[:, :, None]], dim=2)
        decoded = Decoded(inputs, query, context, log_attention, coverage_loss, torch.cat(features, dim=2))
        return decoded, new_state

    def _loop(self, embedded: Tensor, states: list[CellState], memory: Memory, coverage_on: bool) -> Decoded:
        first = {**memory, **first_memory(states)}
        state = self.initial_state(first, 1, coverage_on)
        steps = []
        scores_of = self.attention.scorer(memory["keys"], memory["mask"])
        for words in embedded:  # (B, E)
            decoded, state = self._advance(words[:, None], state, memory, scores_of)
            steps.append(decoded)
        coverage_losses = [step.coverage_loss for step in steps if step.coverage_loss is not None]
        return Decoded(
            inputs=torch.cat([step.inputs for step in steps], dim=1),
            query=torch.cat([step.query for step in steps], dim=1),
            context=torch.cat([step.context for step in steps], dim=1),
            log_attention=torch.cat([step.log_attention for step in steps], dim=1),
            coverage_loss=torch.cat(coverage_losses, dim=1) if coverage_losses else None,
            features=torch.cat([step.features for step in steps], dim=1),
        )

    def _attend_to_past(self, outputs: Tensor) -> Tensor:
        """Intra-decoder attention of all steps (Paulus et al., 2018, eq. 6 to 8); 0 at the first step."""
        assert self.intra_attention is not None
        scores = self.intra_attention.scores(self.intra_attention.project_queries(outputs), outputs)
        num_steps = outputs.shape[1]
        earlier = torch.ones(num_steps, num_steps, dtype=torch.bool, device=outputs.device).tril(-1)
        return masked_log_softmax(scores, earlier).exp().to(outputs.dtype) @ outputs

    def _attend_to(self, output: Tensor, past: Tensor) -> Tensor:
        """The same for one step: output (B, K, H), past (B, K, t, H)."""
        assert self.intra_attention is not None
        if past.shape[2] == 0:
            return torch.zeros_like(output)
        query = self.intra_attention.project_queries(output)
        weights = torch.softmax((past @ query[..., None]).squeeze(3), dim=2)  # (B, K, t)
        return (weights[:, :, None] @ past).squeeze(2)


def first_memory(states: list[CellState]) -> Memory:
    """The decoder's first states as a part of the memory: hidden (B, L, H), and cell for an LSTM."""
    names = ("hidden", "cell")[: len(states[0])]
    return {
        name: torch.stack(parts, dim=1) for name, parts in zip(names, zip(*states, strict=True), strict=True)
    }


def stack_states(states: list[CellState], batch_size: int, beams: int) -> State:
    """Cell states of B*K rows as a decoder state: hidden (B, K, L, H), and cell for an LSTM."""
    names = ("hidden", "cell")[: len(states[0])]
    return {
        name: torch.stack(parts, dim=1).view(batch_size, beams, len(states), -1)
        for name, parts in zip(names, zip(*states, strict=True), strict=True)
    }


def unstack_states(state: State) -> list[CellState]:
    """The way back: cell states of each layer, (B*K, H)."""
    parts = [state[name].flatten(0, 1) for name in ("hidden", "cell") if name in state]  # (B*K, L, H)
    return [tuple(part[:, layer] for part in parts) for layer in range(parts[0].shape[1])]
