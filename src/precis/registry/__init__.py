"""Models as versions in the MLflow registry, and which of them answers."""
