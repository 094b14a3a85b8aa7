"""The training step, the validation step and the optimizer, as Lightning runs them."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from precis.batches.batch import Batch
from precis.models.base import Losses, SummarizationModel
from precis.training import workers
from precis.training.flight_recorder import FlightRecorder, inputs_of
from precis.training.halves import gradients_in_halves, is_out_of_memory, too_large

log = logging.getLogger(__name__)


class SummarizationSystem(pl.LightningModule):
    """A model, its optimizer and its learning-rate schedule.

    Args:
        model: one of the three.
        optimizer: `adam` or `adagrad` (accumulators starting at 0.1, as See et al. have them).
        learning_rate: the highest.
        warmup_updates: updates in which it rises from 0.
        final_learning_rate: the share of the highest that is left after the last update.
        total_updates: updates in all epochs together.
        weight_decay: decoupled; for Adam only.
        gradient_clip: the largest norm of all gradients together.
        consistency_weight: alpha of R-Drop, see `SummarizationModel.training_loss`.
        coverage_speedup: how many times faster the weights learn that only coverage has.
        recorder: told of updates that are not finite.
    """

    def __init__(
        self,
        model: SummarizationModel,
        *,
        optimizer: str,
        learning_rate: float,
        warmup_updates: int,
        final_learning_rate: float,
        total_updates: int,
        weight_decay: float,
        gradient_clip: float,
        consistency_weight: float,
        coverage_speedup: float,
        recorder: FlightRecorder,
    ) -> None:
        super().__init__()
        self.model = model
        self._optimizer = optimizer
        self._learning_rate = learning_rate
        self._warmup_updates = warmup_updates
        self._final_learning_rate = final_learning_rate
        self._total_updates = total_updates
        self._weight_decay = weight_decay
        self._gradient_clip = gradient_clip
        self._consistency_weight = consistency_weight
        self._coverage_speedup = coverage_speedup
        self._recorder = recorder
        self._batch: Batch | None = None
        self._loss: Tensor | None = None
        # total, nll_sum and num_tokens of this batch; None if it did not fit into memory
        self._losses: tuple[Tensor, Tensor, Tensor] | None = None
        self._random_state = torch.get_rng_state()  # before this batch
        self._gradients: dict[nn.Parameter, Tensor] = {}  # of a batch that was done in halves
        # sums since the last logged point, on the device: reading them at each update would make it wait
        self.training_nll: Tensor
        self.training_tokens: Tensor
        self.register_buffer("training_nll", torch.zeros((), dtype=torch.float64))
        self.register_buffer("training_tokens", torch.zeros((), dtype=torch.float64))
        self._validation: list[Losses] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch; of one that does not fit into memory `backward` does all.

        Workers have a part of the batch each. The mean of their gradients is that of the whole batch's loss: each
        loss counts by the words that its part has.

        Raises:
            PrecisError: half of a worker's part does not fit either.
        """
        self._batch, self._random_state = batch, torch.get_rng_state()
        loss = self._loss_of(batch)
        if not workers.is_distributed():
            return loss
        if self._losses is None:  # what the workers exchange must be there before they do
            loss = self._loss_in_halves()
        assert self._losses is not None
        total, nll, num_tokens = self._losses
        sums = workers.summed(torch.stack([total.double() * num_tokens, nll.double(), num_tokens.double()]))
        number = sums[2].clamp(min=1)
        self._losses = sums[0] / number, sums[1], sums[2]
        return loss * (workers.num_workers() * num_tokens / number).to(loss.dtype)

    def _loss_of(self, batch: Batch) -> Tensor:
        try:
            losses = self.model.training_loss(*inputs_of(batch), self._consistency_weight)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._losses = None
            return self.training_nll.new_zeros((), requires_grad=True)
        self._losses = losses.total.detach(), losses.nll_sum.detach(), losses.num_tokens
        return losses.total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """The gradient of one batch; of one that does not fit into memory in two halves.

        Raises:
            PrecisError: half of it does not fit either; or, with several workers, the gradient of a part whose loss
                did: the others have begun to take it in.
        """
        if self._losses is not None:
            try:
                super().backward(loss, *args, **kwargs)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if workers.is_distributed():
                    assert self._batch is not None
                    raise too_large(self._batch, self.global_step, "the gradient of") from error
                self._losses = None
        # outside of the handler, which would keep the failed attempt in memory
        if self._losses is None:
            loss.detach_()
            self._do_halves()
            for parameter, gradient in self._gradients.items():
                parameter.grad = gradient
        self._gradients = {}
        assert self._losses is not None
        self._loss, nll, num_tokens = self._losses
        self.training_nll += nll
        self.training_tokens += num_tokens

    def _loss_in_halves(self) -> Tensor:
        """Something whose gradient is that of the batch's loss."""
        self._do_halves()
        products = [(parameter * gradient).sum() for parameter, gradient in self._gradients.items()]
        return (
            torch.stack(products).sum() if products else self.training_nll.new_zeros((), requires_grad=True)
        )

    def _do_halves(self) -> None:
        batch = self._batch
        assert batch is not None
        log.warning(
            "update %d: a batch of %d rows, the longest of %d words, does not fit into memory; it is done in two "
            "halves. If this happens often, lower train.batch_size",
            self.global_step,
            *batch.source_ids.shape,
        )
        self.zero_grad(set_to_none=True)
        torch.set_rng_state(self._random_state)
        try:
            self._gradients, self._losses = gradients_in_halves(self.model, batch, self._consistency_weight)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_large(batch, self.global_step, "half a batch of") from error

    def configure_gradient_clipping(
        self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any
    ) -> None:
        """Clip all gradients by their norm together; an update that is not finite goes to the recorder."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._gradient_clip, foreach=True)
        assert self._batch is not None and self._loss is not None
        if not torch.stack([norm.float(), self._loss.float()]).isfinite().all():
            # looking for the row runs the model again, and must not change what dropout draws next
            with torch.random.fork_rng():
                self._recorder.record(self.model, self._batch, self.global_step)
            # without gradients the optimizer leaves weights and moments as they are
            optimizer.zero_grad(set_to_none=True)
            self.training_nll.nan_to_num_(0.0, 0.0, 0.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The number of skipped batches goes into the checkpoint: its bound is for the whole training."""
        checkpoint["num_skipped"] = self._recorder.num_skipped

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """It comes from the checkpoint."""
        self._recorder.num_skipped = checkpoint["num_skipped"]

    def take_training_loss(self) -> float:
        """The mean negative log-likelihood of a training word since this was last called."""
        loss = float(self.training_nll / self.training_tokens.clamp(min=1))
        self.training_nll.zero_()
        self.training_tokens.zero_()
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the losses of one validation batch.

        Raises:
            PrecisError: it does not fit into memory.
        """
        try:
            self._validation.append(self.model.training_loss(*inputs_of(batch)))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_large(batch, self.global_step, "a validation batch of") from error

    def on_validation_epoch_end(self) -> None:
        """Log the mean negative log-likelihood of a validation word, and what no model of this kind can write."""
        num_tokens = sum(int(losses.num_tokens) for losses in self._validation)
        num_unreachable = sum(int(losses.num_unreachable) for losses in self._validation)
        nll = sum(float(losses.nll_sum) for losses in self._validation)
        self._validation.clear()
        if workers.is_distributed():
            sums = torch.tensor([nll, num_tokens, num_unreachable], dtype=torch.float64)
            nll, num_tokens, num_unreachable = workers.summed(sums).tolist()
        loss = nll / num_tokens if num_tokens else math.nan
        self.log("validation_loss", loss, logger=False)
        if self.logger is not None:
            metrics = {
                "validation_loss": loss,
                "validation_unreachable": num_unreachable / max(num_tokens + num_unreachable, 1),
            }
            self.logger.log_metrics(metrics, step=self.global_step)

    def configure_optimizers(self) -> Any:
        """The optimizer in its fused form, its rate changed after every update."""
        own = self.model.coverage_parameters()
        others = [
            parameter
            for parameter in self.model.parameters()
            if parameter.requires_grad and not any(parameter is other for other in own)
        ]
        parameters: list[dict[str, Any]] = [{"params": others}]
        if own:
            parameters.append({"params": own, "lr": self._learning_rate * self._coverage_speedup})
        optimizer: torch.optim.Optimizer
        if self._optimizer == "adam":
            optimizer = torch.optim.AdamW(
                parameters, lr=self._learning_rate, weight_decay=self._weight_decay, fused=True
            )
        else:
            optimizer = torch.optim.Adagrad(
                parameters, lr=self._learning_rate, initial_accumulator_value=0.1, fused=True
            )
        schedule = LambdaLR(optimizer, self._rate_at)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate_at(self, update: int) -> float:
        if update < self._warmup_updates:
            return (update + 1) / self._warmup_updates
        remaining = max(self._total_updates - self._warmup_updates, 1)
        done = min((update - self._warmup_updates) / remaining, 1.0)
        return 1.0 - done * (1.0 - self._final_learning_rate)
