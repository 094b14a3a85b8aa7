"""Losses in log space: nothing overflows, no epsilon changes a probability, no (B, T, V+O) is ever built."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from precis.models.base import Losses
from precis.models.rows import take_rows
from precis.models.source import EOS_ID, PAD_ID, UNK_ID, Source, Target

_MAX_LOGITS = 8_000_000
"""Most vocabulary logits at a time (32 MB of float32): more would leave the cache and fill the memory."""


class _MixtureNll(torch.autograd.Function):
    """Weighted sum of -log P(target), its gradient worked out beside it, a block of rows at a time.

    With logits z, P = softmax(z) and r the share of the target's probability that is generated, the gradient
    of -log(p_gen P(target) + copied) by z is r (P - onehot): all that is needed is at hand in the forward
    pass. So the logits of a block live only until the next block, there is no second product for them, and
    the backward pass is a multiplication by a number.
    """

    @staticmethod
    def forward(
        ctx: Any,
        readout: Tensor,  # (N, R)
        weight: Tensor,  # (V, R)
        bias: Tensor,  # (V,)
        targets: Tensor,  # (N,), -1: no word of the vocabulary
        log_gen: Tensor,  # (N,)
        log_copied: Tensor,  # (N,)
        row_weights: Tensor,  # (N,)
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        num_rows, vocabulary_size = readout.shape[0], weight.shape[0]
        needs_grad = any(ctx.needs_input_grad[:6])
        grad_readout = torch.empty_like(readout)
        grad_weight = torch.zeros_like(weight) if num_rows == 0 else torch.empty_like(weight)
        grad_bias = torch.zeros_like(bias)
        grad_gen, grad_copied = torch.empty_like(log_gen), torch.empty_like(log_copied)
        nll = torch.empty_like(log_gen)
        smoothed = log_gen.new_zeros(())
        block_size = max(1, _MAX_LOGITS // vocabulary_size)
        for start in range(0, num_rows, block_size):
            rows = slice(start, start + block_size)
            logits = torch.nn.functional.linear(readout[rows], weight, bias)
            is_half = logits.dtype in (torch.float16, torch.bfloat16)
            logits = logits.float() if is_half else logits
            known = targets[rows] >= 0
            columns = targets[rows].clamp(min=0)[:, None]
            highest = logits.amax(dim=1)
            target_logit = logits.gather(1, columns).squeeze(1)
            mean_logit = logits.mean(dim=1) if smoothing else highest
            exps = logits.sub_(highest[:, None]).exp_()  # in place: P times its sum
            sums = exps.sum(dim=1)
            log_sum = highest + sums.log()
            log_generated = (log_gen[rows] + target_logit - log_sum).masked_fill(~known, -math.inf)
            log_target = torch.logaddexp(log_generated, log_copied[rows])
            # nothing produces this target: it weighs nothing
            possible = log_target > -math.inf
            row_weight = torch.where(possible, row_weights[rows], 0.0)
            log_target = torch.where(possible, log_target, 0.0)
            share = torch.where(possible, (log_generated - log_target).exp(), 0.0)
            nll[rows] = -log_target
            if smoothing:
                smoothed += (row_weight * (log_sum - mean_logit)).sum()
            if not needs_grad:
                continue
            grad_gen[rows] = -(1 - smoothing) * row_weight * share
            grad_copied[rows] = -(1 - smoothing) * row_weight * (1 - share)
            # gradient by the logits: scale * exps + grad_gen at the target, less the smoothing
            if is_half:  # as probabilities: a sum of exponentials may be outside of float16
                exps /= sums[:, None]
                sums = torch.ones_like(sums)
            scale = row_weight * ((1 - smoothing) * share + smoothing) / sums
            at_target = torch.where(scale > 0, grad_gen[rows] / scale, 0.0)
            exps.scatter_add_(1, columns, at_target[:, None])
            exps = exps.to(weight.dtype)
            scaled = scale[:, None].to(weight.dtype)
            grad_readout[rows] = (exps @ weight).mul_(scaled)
            if start == 0:
                torch.mm(exps.t(), readout[rows] * scaled, out=grad_weight)
            else:
                grad_weight.addmm_(exps.t(), readout[rows] * scaled)
            grad_bias += exps.t() @ scaled.squeeze(1)
            if smoothing:
                uniform = (row_weight * (smoothing / vocabulary_size))[:, None].to(weight.dtype)
                grad_readout[rows] -= uniform * weight.sum(dim=0)
                grad_weight -= (uniform * readout[rows]).sum(dim=0)
                grad_bias -= uniform.sum()
        if needs_grad:
            ctx.save_for_backward(grad_readout, grad_weight, grad_bias, grad_gen, grad_copied)
        ctx.mark_non_differentiable(nll)
        return (1 - smoothing) * (nll * row_weights).sum() + smoothing * smoothed, nll

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        if grad.is_cuda or grad.item() != 1:  # asking a GPU would wait for it
            saved = tuple(gradient * grad.to(gradient.dtype) for gradient in saved)
        readout, weight, bias, log_gen, log_copied = saved
        return readout, weight, bias, None, log_gen, log_copied, None, None


def mixture_nll(
    readout: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    log_gen: Tensor,
    log_copied: Tensor,
    row_weights: Tensor,
    smoothing: float,
) -> tuple[Tensor, Tensor]:
    """-log P(w) of the mixture (See et al., 2017, eq. 6 and 9), for the target words alone.

    P(w) = p_gen P_vocab(w) + (1 - p_gen) * sum of a_i where source_i = w, as a logaddexp of logarithms.

    Args:
        readout: what the output layer reads, (N, R).
        weight: of the output layer, (V, R).
        bias: of the output layer, (V,).
        targets: ids of the target words, -1 for a word outside of the vocabulary, (N,).
        log_gen: log p_gen, (N,), float32.
        log_copied: log of (1 - p_gen) times the attention on the target word, -inf for none, (N,), float32.
        row_weights: of each row in the sum, (N,), float32.
        smoothing: share of the loss that is the cross-entropy of P_vocab with a uniform distribution.

    Returns:
        the weighted sum, smoothed; and without smoothing or gradient each row's -log P(w), (N,), 0 for a
        target that nothing produces.
    """
    result: tuple[Tensor, Tensor] = _MixtureNll.apply(  # type: ignore[no-untyped-call]
        readout, weight, bias, targets, log_gen, log_copied, row_weights, smoothing
    )
    return result


def end_or_copy_nll(targets: TargetRows, log_end: Tensor, log_copied: Tensor) -> tuple[Tensor, Tensor]:
    """-log P(w) of a model that generates nothing but the end and copies everything else.

    Args:
        targets: the targets.
        log_end: log of the probability of ending, (N,).
        log_copied: log of the probability of copying the target, -inf for none, (N,).

    Returns:
        as `mixture_nll`.
    """
    possible = targets.weights > 0
    log_target = torch.logaddexp(
        torch.where(targets.in_vocabulary, log_end, -math.inf), torch.where(possible, log_copied, 0.0)
    )
    nll = -torch.where(possible, log_target, 0.0)
    return (nll * targets.weights).sum(), nll.detach()


def copied_mass(log_attention: Tensor, matches: Tensor) -> Tensor:
    """Log of the sum of a_i where source_i = w (the second term of See et al., 2017, eq. 9).

    Args:
        log_attention: log a^t, -inf at padding, (N, S).
        matches: True where source_i = w, (N, S).

    Returns:
        (N,), -inf where nothing matches, with a finite gradient also there.
    """
    some = matches.any(dim=-1)
    # a row without a match must not reach logsumexp as -inf alone: its gradient would be NaN
    chosen = torch.where(matches, log_attention, -math.inf).masked_fill(~some[:, None], 0.0)
    return torch.logsumexp(chosen, dim=-1).masked_fill(~some, -math.inf)


class TargetRows:
    """Which of the B*T target positions count, and what they ask for.

    Attributes:
        rows: positions in a flattened (B*T), (N,); on a CPU only those that count, elsewhere all (picking
            them would have to wait for the device).
        targets: extended ids, (N,).
        in_vocabulary: True where the model can generate the target: words of the vocabulary, or EOS_ID alone
            if it generates no words; (N,).
        matches: True where the source holds the target, (N, S); None if the model neither copies nor is told
            where to attend.
        weights: 1 / number of reachable targets where the target is reachable, 0 elsewhere, (N,).
        num_tokens: reachable targets.
        num_unreachable: targets that nothing can produce.
    """

    def __init__(
        self,
        source: Source,
        target: Target,
        vocabulary_size: int,
        pointer: bool,
        points: bool = False,
        generates_words: bool = True,
    ) -> None:
        ids = target.ids.flatten()
        num_steps = target.ids.shape[1]
        real = ids != PAD_ID
        self.rows = real.nonzero().squeeze(1) if ids.device.type == "cpu" else torch.arange(len(ids)).to(ids)
        self.targets = ids[self.rows]
        if generates_words:
            self.in_vocabulary = (self.targets < vocabulary_size) & (self.targets != UNK_ID)
            self.in_vocabulary &= self.targets != PAD_ID
        else:
            self.in_vocabulary = self.targets == EOS_ID
        self.matches: Tensor | None = None
        reachable = self.in_vocabulary
        if pointer or points:
            documents = self.rows // num_steps
            self.matches = source.extended_ids[documents] == self.targets[:, None]
            self.matches &= source.mask[documents] & (self.targets != UNK_ID)[:, None]
        if pointer:
            assert self.matches is not None
            reachable = reachable | self.matches.any(dim=1)
        self.num_tokens = reachable.sum()
        self.num_unreachable = real.sum() - self.num_tokens
        self.weights = reachable.float() / self.num_tokens.clamp(min=1)

    def take(self, x: Tensor) -> Tensor:
        """The rows of a (B, T, F) tensor that count, (N, F)."""
        return take_rows(x.flatten(0, 1), self.rows)


def collect_losses(
    rows: TargetRows,
    loss: Tensor,
    nll: Tensor,
    log_mass: Tensor | None,
    pointing_weight: float,
    coverage_terms: Tensor | None,
    coverage_weight: float,
    consistency: Tensor | None,
    consistency_weight: float,
) -> Losses:
    """Put the losses of one batch together.

    Args:
        rows: the targets.
        loss: mean negative log-likelihood, smoothed.
        nll: of each row, (N,).
        log_mass: log of the attention on the source positions that hold the target, (N,); -inf for none.
        pointing_weight: of -log_mass in the total.
        coverage_terms: sum of min(a_i, c_i) of each row (See et al., 2017, eq. 12), (N,).
        coverage_weight: of their mean in the total.
        consistency: what `disagreement` says.
        consistency_weight: alpha of R-Drop, whose loss is a sum of two readings (Liang et al., 2021, eq. 4): half of it
            weighs the disagreement in their mean.
    """
    total = loss
    pointing = coverage = None
    if log_mass is not None:
        pointing = (torch.where(log_mass > -math.inf, -log_mass, 0.0) * rows.weights).sum()
        if pointing_weight:
            total = total + pointing_weight * pointing
    if coverage_terms is not None:
        coverage = (coverage_terms * rows.weights).sum()
        if coverage_weight:
            total = total + coverage_weight * coverage
    if consistency is not None:
        total = total + consistency_weight / 2 * consistency
    return Losses(
        total=total,
        nll_sum=(nll * (rows.weights > 0)).sum().detach(),
        num_tokens=rows.num_tokens,
        num_unreachable=rows.num_unreachable,
        pointing=None if pointing is None else pointing.detach(),
        coverage=None if coverage is None else coverage.detach(),
        consistency=None if consistency is None else consistency.detach(),
    )
