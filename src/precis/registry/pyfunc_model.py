"""What MLflow runs to serve a registered model (models-from-code): it only calls the installed precis.

This file is copied beside the weights. It holds no logic, so that an old copy of it cannot disagree
with the package.
"""

from __future__ import annotations

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from precis.registry.manifest import check_manifest
from precis.serving.summarizer import Summarizer


class SummarizerModel(PythonModel):  # type: ignore[misc]  # MLflow's base class is untyped
    """Documents in, summaries out."""

    def load_context(self, context: PythonModelContext) -> None:
        directory = context.artifacts["model"]
        check_manifest(directory)
        self._summarizer = Summarizer.load(directory)

    def predict(self, model_input: list[str]) -> list[str]:
        return [summary.text for summary in self._summarizer.summarize(model_input)]


set_model(SummarizerModel())
