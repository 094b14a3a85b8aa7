"""What to do when a loss or a gradient is not finite: say which rows did it, keep the batch, stop or skip."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from precis.batches.batch import Batch
from precis.errors import PrecisError
from precis.files import atomic_path
from precis.models.base import SummarizationModel
from precis.models.source import Source, Target
from precis.training import workers

log = logging.getLogger(__name__)


class FlightRecorder:
    """Counts non-finite updates and keeps what caused them.

    Args:
        directory: where the batch and its row ids are written.
        row_id: the corpus id of a row number.
        max_skipped: updates left out before training stops; 0 stops at the first.
    """

    def __init__(self, directory: Path, *, row_id: Callable[[int], str], max_skipped: int) -> None:
        self._directory = directory
        self._row_id = row_id
        self._max_skipped = max_skipped
        self.num_skipped = 0

    def record(self, model: SummarizationModel, batch: Batch, update: int) -> None:
        """Write the batch to a file; return if the update may be skipped.

        Every worker writes its part of the batch and says which of its rows are guilty; all decide alike.

        Raises:
            PrecisError: no more updates may be skipped; names the update, the rows and the file.
        """
        places = non_finite_rows(model, batch)
        own_ids = [self._row_id(int(row)) for row in batch.rows]
        own_guilty = [own_ids[place] for place in places]
        part = f"_{workers.rank()}" if workers.rank() else ""
        path = self._directory / f"non_finite_{update:08d}{part}.safetensors"
        tensors = {
            field.name: getattr(batch, field.name).contiguous()
            for field in fields(batch)
            if isinstance(getattr(batch, field.name), Tensor)
        }
        metadata = {
            "row_ids": json.dumps(own_ids),
            "guilty_row_ids": json.dumps(own_guilty),
        }
        with atomic_path(path) as temporary:
            save_file(tensors, str(temporary), metadata=metadata)
        parts = workers.gathered((own_ids, own_guilty, str(path)))
        ids, guilty = ([row_id for part in parts for row_id in part[place]] for place in (0, 1))
        files = ", ".join([file for _, some, file in parts if some] or [str(path)])
        spoiled = [name for name, weight in model.named_parameters() if not weight.isfinite().all()]
        if spoiled and len(guilty) == len(ids):
            cause = f"the weights {', '.join(spoiled)} held a NaN or an infinity before it, and so every row fails"
        elif guilty:
            cause = "the rows " + ", ".join(map(repr, guilty)) + " caused it"
        else:
            cause = "no single row, only the batch as a whole, caused it"
        found = f"NaN or infinity in the loss or its gradient at update {update}: {cause}"
        if self.num_skipped >= self._max_skipped:
            advice = "look at these rows, lower train.learning_rate, or let train.max_skipped_batches leave some out"
            raise workers.told_by_first(PrecisError(f"{found}. The batch is in {files}; {advice}"))
        self.num_skipped += 1
        if workers.is_first():
            log.warning("%s; skipped (%d of %d), see %s", found, self.num_skipped, self._max_skipped, files)


def non_finite_rows(model: SummarizationModel, batch: Batch) -> list[int]:
    """Places in the batch whose row alone has a loss or a gradient that is not finite."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    places = []
    for place in range(len(batch.rows)):
        source, target = inputs_of(batch, slice(place, place + 1))
        loss = model.training_loss(source, target).total
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        whole = [loss, *(gradient for gradient in gradients if gradient is not None)]
        if not all(bool(tensor.isfinite().all()) for tensor in whole):
            places.append(place)
    return places


def inputs_of(batch: Batch, rows: slice = slice(None)) -> tuple[Source, Target]:
    """A batch, or some rows of it, as the models take it."""
    source = Source(
        ids=batch.source_ids[rows],
        extended_ids=batch.source_extended_ids[rows],
        lengths=batch.source_lengths[rows],
        num_oovs=batch.num_oovs,
    )
    return source, Target(inputs=batch.target_inputs[rows], ids=batch.target_ids[rows])
