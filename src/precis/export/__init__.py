"""A trained model as two ONNX graphs, and what runs them: numpy and onnxruntime, no torch."""
