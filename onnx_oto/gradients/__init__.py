"""Gradients of an ONNX model: lowering, losses and the ONNX Runtime backend (in `gradients.backends`)."""

from __future__ import annotations

from onnx_oto.gradients.graph.preparation import refusals
from onnx_oto.gradients.spec import LOSSES, GradientBackend, GradientSession, TrainingSpec
from onnx_oto.runtime.installed import require_training

__all__ = ["LOSSES", "GradientBackend", "GradientSession", "TrainingSpec", "refusals", "require_training"]
