"""Cutting lanes out of a model."""

from onnx_oto.surgery.compact import Compacted, compact, cut
from onnx_oto.surgery.order import standing
from onnx_oto.surgery.origin import kept_positions

__all__ = ["Compacted", "compact", "cut", "kept_positions", "standing"]
