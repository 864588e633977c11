"""Training-only rewriting of a graph into ops with a correct gradient; one function per op."""

from __future__ import annotations

from onnx_oto.gradients.graph.lowering import (
    activations,
    arithmetic,
    convolution,
    einsum,
    indexing,
    normalization,
    pooling,
    recurrent,
    reductions,
    resize,
    shuffles,
    training_ops,
)
from onnx_oto.gradients.graph.lowering.engine import Lowered, Refusal, lower
from onnx_oto.gradients.graph.lowering.registry import Mask, registered

__all__ = ["Lowered", "Mask", "Refusal", "lower", "registered"]

_FAMILIES = (
    activations,
    arithmetic,
    convolution,
    einsum,
    indexing,
    normalization,
    pooling,
    recurrent,
    reductions,
    resize,
    shuffles,
    training_ops,
)  # importing a family enters its functions into the table
