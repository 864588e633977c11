"""Evaluators of shape arithmetic by op; importing this package fills the registry."""

from onnx_oto.model.shapes.evaluators import elementwise, movement
from onnx_oto.model.shapes.values import EVALUATORS

__all__ = ["EVALUATORS", "elementwise", "movement"]
