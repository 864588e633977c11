"""A model without its heavy weights, for the C++ checker, inliner and shape inference.

Those serialise whatever they are given. The skeleton replaces every heavy initializer by a typed graph input,
so it stays small whatever the model weighs, and keeps small constants because shapes depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from onnx_oto.model.graph.tensors import element_count, is_external

SMALL_ELEMENTS = 64
SMALL_INTEGERS = 1024
FOR_PEOPLE = ("metadata_props", "doc_string")
"""Fields of a model that nothing computes with, and that can be of any length."""
_TREES, _OF_TREES = "TreeEnsemble", ("nodes_", "class_", "target_", "leaf_", "tree_")
"""Operators that hold trees in their attributes, and which attributes of theirs have an element for every node."""
_INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)


def is_heavy(tensor: TensorProto) -> bool:
    """Say whether shape inference can do without the payload of this tensor."""
    limit = SMALL_INTEGERS if tensor.data_type in _INTEGERS else SMALL_ELEMENTS
    return is_external(tensor) or element_count(tensor) > limit


def skeleton(model: ModelProto, nodes: Iterable[NodeProto] | None = None) -> ModelProto:
    """Return a copy of the model without heavy weights, without stored value_info and without what only people read.

    `nodes` replaces the nodes of the graph. Heavy Constant nodes become inputs as well; ensembles keep one of all their
    trees' nodes. `ir_version` is at least 4, so that an initializer need not be an input. The argument is not modified.
    """
    bare = copy_except_graph(model, *FOR_PEOPLE)
    bare.ir_version = max(model.ir_version, 4)
    bare.ClearField("training_info")
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.sparse_initializer.extend(model.graph.sparse_initializer)
    listed = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if not is_heavy(tensor):
            graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in listed:
            _declare(graph, tensor.name, tensor)
    kept = []
    for node in model.graph.node if nodes is None else nodes:
        weight = heavy_constant(node)
        if weight is not None:
            _declare(graph, node.output[0], weight)
        else:
            kept.append(without_trees(node))
    graph.node.extend(kept)
    return bare


def without_trees(node: NodeProto) -> NodeProto:
    """Return a tree ensemble without most of its trees, of which its types say nothing; any other node as it is."""
    if node.domain != "ai.onnx.ml" or not node.op_type.startswith(_TREES):
        return node
    light = NodeProto(
        op_type=node.op_type, domain=node.domain, name=node.name, input=node.input, output=node.output
    )
    for attr in node.attribute:
        lists = (attr.floats, attr.ints, attr.strings)
        if attr.name.startswith(_OF_TREES) and max(map(len, lists)) > SMALL_ELEMENTS:
            kept = AttributeProto(name=attr.name, type=attr.type)
            for field, values in zip((kept.floats, kept.ints, kept.strings), lists, strict=True):
                field.extend(values[:1])
            light.attribute.append(kept)
        else:
            light.attribute.append(attr)
    return light


def copy_except_graph(model: ModelProto, *fields: str) -> ModelProto:
    """Return a copy of everything but the graph and these fields: versions, opsets, metadata, functions."""
    head = ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph" or field.name in fields:
            continue
        if field.is_repeated:
            getattr(head, field.name).extend(value)
        elif field.message_type is not None:
            getattr(head, field.name).CopyFrom(value)
        else:
            setattr(head, field.name, value)
    return head


def copy_frame(source: GraphProto, target: GraphProto) -> None:
    """Copy everything of a graph but its nodes, initializers and value_info into an empty one."""
    for field, value in source.ListFields():
        if field.name in ("node", "initializer", "sparse_initializer", "value_info"):
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        else:
            setattr(target, field.name, value)


def heavy_constant(node: NodeProto) -> TensorProto | None:
    """Return the tensor of a Constant node when it is heavy, else None."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return None
    for attr in node.attribute:
        if attr.name == "value" and attr.HasField("t") and is_heavy(attr.t):
            tensor: TensorProto = attr.t
            return tensor
    return None


def _declare(graph: GraphProto, name: str, tensor: TensorProto) -> None:
    kind = graph.input.add(name=name).type.tensor_type
    kind.elem_type = tensor.data_type
    kind.shape.SetInParent()
    for size in tensor.dims:
        kind.shape.dim.add(dim_value=size)
