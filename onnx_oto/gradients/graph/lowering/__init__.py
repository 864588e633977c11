"""Training-only rewriting of a graph into ops with a correct gradient; one function per op."""

from __future__ import annotations

from onnx_oto.gradients.graph.lowering import (
    activations,
    arithmetic,
    convolution,
    definitions,
    einsum,
    fused,
    indexing,
    normalization,
    pooling,
    recurrent,
    reductions,
    refused,
    resize,
    sampling,
    shuffles,
    slopes,
    training_ops,
    windows,
)
from onnx_oto.gradients.graph.lowering.engine import Lowered, Refusal, lower
from onnx_oto.gradients.graph.lowering.lowerings import Mask, registered

__all__ = ["Lowered", "Mask", "Refusal", "lower", "registered"]

_FAMILIES = (
    activations,
    arithmetic,
    convolution,
    definitions,
    einsum,
    fused,
    indexing,
    normalization,
    pooling,
    recurrent,
    reductions,
    refused,
    resize,
    sampling,
    shuffles,
    slopes,
    training_ops,
    windows,
)  # importing a family enters its functions into the table
