"""What MLflow runs to serve a registered model (models-from-code): it only calls the installed precis.

This file is copied beside the weights. It holds no logic, so that an old copy of it cannot disagree
with the package.
"""

from __future__ import annotations

from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from precis.registry.manifest import check_manifest
from precis.serving.summarizer import Summarizer


class SummarizerModel(PythonModel):
    """Documents in, summaries out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights and words that lie beside this file, once every byte is checked."""
        directory = context.artifacts["model"]
        check_manifest(directory)
        self._summarizer = Summarizer.load(directory)

    def predict(self, model_input: list[str]) -> list[str]:  # type: ignore[override]
        """One summary for each document."""
        return [summary.text for summary in self._summarizer.summarize(model_input)]


set_model(SummarizerModel())
