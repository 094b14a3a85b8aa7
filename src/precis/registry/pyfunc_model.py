"""What MLflow runs to serve a registered model (models-from-code): it only calls the installed precis.

This file is copied beside the weights. It holds no logic, so that an old copy of it cannot disagree
with the package.
"""

from __future__ import annotations

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from precis.manifest import check_manifest
from precis.serving.summarizer import Summarizer


class SummarizerModel(PythonModel):
    """Documents in, summaries out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights and words that lie beside this file, once every byte is checked."""
        directory = context.artifacts["model"]
        self._summarizer = Summarizer.load(directory, digest=check_manifest(directory))

    # no type of what comes out, since it depends on the parameters: MLflow would warn of any other way to say so
    def predict(  # type: ignore[no-untyped-def, override]
        self, model_input: list[str], params: dict[str, Any] | None = None
    ):
        """One summary for each document, as text or, with the parameter `provenance`, with its sources."""
        return self._summarizer.serve(model_input, **(params or {}))


set_model(SummarizerModel())
