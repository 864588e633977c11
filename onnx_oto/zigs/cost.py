"""Multiply-accumulates of models with open sizes, counted at sizes that are said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import ModelProto, TensorProto

from onnx_oto import ops
from onnx_oto.lanes.trace import Trace
from onnx_oto.model.external import SMALL_BYTES
from onnx_oto.model.graph import graph
from onnx_oto.model.skeleton import copy_except_graph, copy_frame
from onnx_oto.model.tensors import byte_count
from onnx_oto.zigs.analysis import Analysis

IMAGE_SIZE, LENGTH = 224, 128
"""What open sizes other than the batch are counted as: of images (rank 4 and up), and of anything else."""


@dataclass(frozen=True)
class Macs:
    """How many multiply-accumulates, and at which open sizes: by symbol, or input and axis where none is given."""

    count: int
    at: Mapping[str, int] = field(default_factory=dict)


def count_macs(analysis: Analysis) -> Macs:
    """Return the multiply-accumulates of one sample of a model, open sizes as `stated_sizes` says."""
    at = stated_sizes(analysis.model)
    if all(size == 1 for size in at.values()):
        return Macs(analysis.macs, at)
    trace = Trace(graph(_sized(analysis.model, at)))
    for node in trace.graph.nodes:
        ops.apply(node, trace)
    return Macs(sum(trace.macs.values()), at)


def stated_sizes(model: ModelProto) -> dict[str, int]:
    """Return a size for every open axis of the inputs: 1 for the first (the batch), else `IMAGE_SIZE` or `LENGTH`."""
    found: dict[str, int] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        other = IMAGE_SIZE if len(dims) >= 4 else LENGTH
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value"):
                found.setdefault(dim.dim_param or f"{value.name}[{axis}]", other if axis else 1)
    return found


def _sized(model: ModelProto, at: Mapping[str, int]) -> ModelProto:
    """Return the model with inputs of these sizes, without its large weights and without what it says of outputs."""
    light = copy_except_graph(model)
    copy_frame(model.graph, light.graph)
    light.graph.node.extend(model.graph.node)
    for value in light.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_value = at[dim.dim_param or f"{value.name}[{axis}]"]
    for value in light.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for tensor in model.graph.initializer:
        if byte_count(tensor) <= SMALL_BYTES:
            light.graph.initializer.add().CopyFrom(tensor)
        else:
            bare = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            bare.data_location = TensorProto.EXTERNAL
    return light
