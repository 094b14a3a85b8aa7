"""A straightforward port of See et al. (2017) to PyTorch, one decoder step at a time: a peer in the benchmarks.

It is written as the paper reads and as such ports usually are: a packed encoder, and for each target word a step of
the decoder, attention, a softmax over the vocabulary, the extended distribution, and the logarithm of its target.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class See2017Port(nn.Module):
    """Pointer-generator with coverage."""

    def __init__(self, vocabulary_size: int, embedding_size: int, hidden_size: int, coverage: bool) -> None:
        super().__init__()
        width = 2 * hidden_size
        self.coverage = coverage
        self.hidden_size = hidden_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.encoder = nn.LSTM(embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.reduce_h, self.reduce_c = nn.Linear(width, hidden_size), nn.Linear(width, hidden_size)
        self.merge = nn.Linear(width + embedding_size, embedding_size)
        self.decoder = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.w_h, self.w_s = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.w_c, self.v = nn.Linear(1, width, bias=False), nn.Linear(width, 1, bias=False)
        self.gate = nn.Linear(2 * width + embedding_size, 1)
        self.out1, self.out2 = (
            nn.Linear(width + hidden_size, hidden_size),
            nn.Linear(hidden_size, vocabulary_size),
        )

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean over the rows of the mean over their steps of -log P(w), plus the coverage loss."""
        losses = self._step_losses(batch)
        counts = (batch["target_ids"] != 0).sum(1)
        return (losses.sum(1) / counts).mean()

    def word_losses(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Of each step (B, T), and True where the target is a word that the vocabulary or the source has."""
        return self._step_losses(batch), (batch["target_ids"] != 0) & (batch["target_ids"] != 1)

    def _step_losses(self, batch: dict[str, Tensor]) -> Tensor:
        lengths, extended = batch["lengths"], batch["extended_ids"]
        mask = (torch.arange(extended.shape[1]) < lengths[:, None]).float()
        num_oovs = max(0, int(extended.max()) - self.out2.out_features + 1)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(batch["source_ids"]), lengths, batch_first=True, enforce_sorted=False
        )
        states, (h, c) = self.encoder(packed)
        states, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
        states = states.contiguous()
        features = self.w_h(states)
        h = F.relu(self.reduce_h(h.transpose(0, 1).reshape(len(lengths), -1)))[None]
        c = F.relu(self.reduce_c(c.transpose(0, 1).reshape(len(lengths), -1)))[None]
        coverage = torch.zeros_like(mask)
        context = states.new_zeros(len(lengths), states.shape[2])
        embedded = self.embedding(batch["target_inputs"])
        losses = []
        for t in range(embedded.shape[1]):
            x = self.merge(torch.cat([context, embedded[:, t]], 1))
            _, (h, c) = self.decoder(x[:, None], (h, c))
            state = torch.cat([h[0], c[0]], 1)
            scores = features + self.w_s(state)[:, None]
            if self.coverage:
                scores = scores + self.w_c(coverage[:, :, None])
            attention = F.softmax(self.v(torch.tanh(scores)).squeeze(2), dim=1) * mask
            attention = attention / attention.sum(1, keepdim=True)
            context = torch.bmm(attention[:, None], states).squeeze(1)
            p_gen = torch.sigmoid(self.gate(torch.cat([context, state, x], 1)))
            vocab_dist = F.softmax(self.out2(self.out1(torch.cat([h[0], context], 1))), dim=1)
            final = torch.cat([p_gen * vocab_dist, vocab_dist.new_zeros(len(lengths), num_oovs)], 1)
            final = final.scatter_add(1, extended, (1 - p_gen) * attention)
            target = batch["target_ids"][:, t]
            loss = -torch.log(final.gather(1, target[:, None]).squeeze(1) + 1e-12)
            if self.coverage:
                loss = loss + torch.minimum(attention, coverage).sum(1)
                coverage = coverage + attention
            losses.append(loss * (target != 0))
        return torch.stack(losses, 1)
