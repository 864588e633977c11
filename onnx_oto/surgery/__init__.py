"""Cutting lanes out of a model."""

from onnx_oto.surgery.compact import compact

__all__ = ["compact"]
