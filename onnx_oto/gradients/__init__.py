"""Gradients of an ONNX model.

spec.py         what a step is asked for, and the seam of sessions
preparation.py  the one value between a model and a session
graph/          from the model to its training graph
backends/       from a training graph to a gradient graph
session/        runs a gradient graph, whoever made it
"""

from __future__ import annotations

from onnx_oto.gradients.backends import BACKENDS, Backend, choose_backend
from onnx_oto.gradients.preparation import Preparation, prepare, require_trainable
from onnx_oto.gradients.spec import GradientSession, TrainingSpec

__all__ = [
    "BACKENDS",
    "Backend",
    "GradientSession",
    "Preparation",
    "TrainingSpec",
    "choose_backend",
    "prepare",
    "require_trainable",
]
