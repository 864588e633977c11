"""Cutting lanes out of a model."""

from onnx_oto.surgery.compact import compact, rehearse

__all__ = ["compact", "rehearse"]
