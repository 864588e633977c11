"""From a model to its training graph: ONNX only, no runtime."""
