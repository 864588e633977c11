"""Graph surgery: from an analysed full model and the lanes to drop to the compact model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.errors import OtoError
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.machine import without_collecting
from onnx_oto.model.files.check import check
from onnx_oto.model.graph.flat import Nest, flatten
from onnx_oto.model.graph.names import all_names
from onnx_oto.model.graph.node import standard_domain
from onnx_oto.model.graph.order import NOTHING, drop_dead, sort_graph
from onnx_oto.model.graph.skeleton import copy_except_graph, copy_frame
from onnx_oto.model.graph.tensors import is_external, write_array
from onnx_oto.surgery.order import fold
from onnx_oto.surgery.weights import Sliced
from onnx_oto.zigs.analysis import Analysis


@dataclass(frozen=True, eq=False)
class Compacted:
    """A compact model, and the order of its initializers' axes where it is not that of the full model.

    orders: by initializer and axis, which of the positions left stands at every place, int64 [n]. streamed: the values
    of initializers that are external in the model, as those of the full one are; each is made when it is looked at.
    """

    model: onnx.ModelProto
    orders: Mapping[str, Mapping[int, IntArray]]
    streamed: Mapping[str, npt.NDArray[Any]]


def compact(analysis: Analysis, drop: BoolArray) -> onnx.ModelProto:
    """Return the compact model: the full one without the lanes `drop` (bool [lanes]).

    It computes what the full model computes when the ZIGs of those lanes are zero. Everything the user put in
    stays: inputs, outputs, names, opsets, metadata, doc strings; a standard opset is added where there was none and
    nodes of it are needed. The result passed the full onnx check with strict shape inference. `analysis` is not
    modified.
    """
    return cut(analysis, drop).model


@without_collecting()
def cut(analysis: Analysis, drop: BoolArray) -> Compacted:
    """Return the compact model (see `compact`) with what is needed to say where its parameters come from."""
    import onnx_graphsurgeon as gs  # what only looks at a model does without
    from onnx_graphsurgeon.logger import G_LOGGER

    from onnx_oto.surgery.knife import Knife, exported_nodes

    # It prints to stdout, where the result goes, that numpy lacks a type (bfloat16): the type is kept all the same.
    G_LOGGER.severity = G_LOGGER.ERROR
    full = analysis.model
    placed = flatten(full.graph)
    repaired = {name for name, _ in analysis.trace.repairs}
    graph = gs.import_onnx(
        _without_weights(full, [each.node for each in placed if each.node.name in repaired])
    )
    weights = Sliced(analysis, drop)
    taken = all_names(full.graph).union(*(each.node.output for each in placed if each.owner is not None))
    knife = Knife(graph, analysis.trace, analysis.lanes.of_label, drop, weights, taken)
    for _, repair in analysis.trace.repairs:
        repair(knife)
    result = copy_except_graph(full)
    copy_frame(full.graph, result.graph)
    result.graph.value_info.extend(
        value for value in full.graph.value_info if _is_whole(analysis, value.name)
    )
    nodes = exported_nodes(graph, knife.touched, [each.node for each in placed])
    result.graph.node.extend(Nest(placed, nodes, knife.sizes).built())
    written = any(not standard_domain(node.domain) for node in result.graph.node)
    if written and "" not in analysis.graph.opsets:
        result.opset_import.add(domain="", version=knife.opset)
    for tensor in full.graph.initializer:
        if tensor.name in weights and is_external(tensor):
            empty = result.graph.initializer.add(
                name=tensor.name, data_type=tensor.data_type, dims=weights.shape(tensor.name)
            )
            empty.data_location = onnx.TensorProto.EXTERNAL
        elif tensor.name in weights:
            write_array(weights[tensor.name], tensor.name, result.graph.initializer.add())
        else:
            result.graph.initializer.add().CopyFrom(tensor)
    known = {tensor.name for tensor in full.graph.initializer}
    for name, constant in graph.tensors().items():
        if isinstance(constant, gs.Constant) and name not in known:
            result.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(constant.values), name))
    try:
        sort_graph(result.graph, NOTHING, "the compact graph")
        drop_dead(result.graph)
        is_streamed = any(map(is_external, result.graph.initializer))
        orders = fold(result) if drop.any() and not is_streamed else {}
        check(result, written=weights.keys(), from_checked=True)
    except OtoError as error:
        raise OtoError(f"the compact model is not valid, which is a defect of onnx-oto: {error}") from error
    return Compacted(result, orders, weights)


def _is_whole(analysis: Analysis, name: str) -> bool:
    """Return whether a tensor carries no lanes, so that its stored shape is the compact model's too."""
    layout = analysis.trace.layouts.get(name)
    return layout is None or not layout.blocks


def _without_weights(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """Return these nodes of the model, without the payload of large float initializers: surgery replaces those.

    Of the nodes only those that something is done to, for to import one takes longer than all the rest of surgery.
    """
    light = copy_except_graph(model)
    copy_frame(model.graph, light.graph)
    light.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name not in read:
            continue
        if np.prod(tensor.dims, dtype=np.int64) > 1024 and tensor.data_type != onnx.TensorProto.INT64:
            empty = light.graph.initializer.add(name=tensor.name, data_type=tensor.data_type)
            empty.dims.extend([0])
        else:
            light.graph.initializer.add().CopyFrom(tensor)
    return light
