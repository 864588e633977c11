"""Cutting lanes out of a model."""

from onnx_oto.surgery.compact import Compacted, compact, cut
from onnx_oto.surgery.order import standing
from onnx_oto.surgery.origin import Inside, kept_inside, kept_positions

__all__ = ["Compacted", "Inside", "compact", "cut", "kept_inside", "kept_positions", "standing"]
