"""The Lightning system, its checkpoints, and the record of a run in MLflow."""
