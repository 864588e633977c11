"""Train an ONNX model once and get a smaller ONNX model that computes the same function."""

__version__ = "0.1.0"
