"""Models for the contract: written as text for `onnx.parser`, every weight random.

A tensor that the text declares between `<` and `>` without a value, and that no node makes, becomes an
initializer of that shape with random values:

    build("g (float[N,3] x) => (float[N,2] y) <float[2,3] w> { y = Gemm<transB=1>(x, w) }")
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_oto.model.graph.forms import form
from onnx_oto.model.graph.order import graphs

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def build(text: str, *, opset: int = 17, domain: str = "", seed: int = 0) -> ModelProto:
    """Return the model that `text` describes (the graph only, no header), its weights drawn with `seed`.

    domain: a further operator domain that the text uses.
    """
    extra = f', "{domain}" : 1' if domain else ""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{extra}]>\n{text}')
    fill(model, np.random.default_rng(seed))
    return model


def fill(model: ModelProto, rng: np.random.Generator) -> None:
    """Turn declared tensors that no node makes into random initializers, in place; in bodies too."""
    for graph in graphs(model.graph):
        made = {name for node in graph.node for name in node.output}
        declared = [value for value in graph.value_info if value.name not in made]
        for value in declared:
            kind = value.type.tensor_type
            shape = [dim.dim_value for dim in kind.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            graph.initializer.append(
                numpy_helper.from_array(weight(value.name, shape, rng).astype(dtype), value.name)
            )
        del graph.value_info[:]


def weight(name: str, shape: list[int], rng: np.random.Generator) -> np.ndarray:
    """Return random values, none of them zero: variances (`var...`) positive, weights scaled by their fan-in."""
    if name.startswith("var"):
        return rng.uniform(0.5, 1.5, shape)
    values = rng.uniform(0.3, 1.3, shape) * rng.choice([-1.0, 1.0], shape)
    return values / np.sqrt(max(np.prod(shape[1:], dtype=np.int64), 1))


def initializers_as_inputs(model: ModelProto) -> ModelProto:
    """Return the model with every initializer listed among the graph inputs too, as old exporters write it."""
    result = copied(model)
    for tensor in result.graph.initializer:
        result.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return result


def weights_as_constants(model: ModelProto) -> ModelProto:
    """Return the model with every initializer written as a Constant node in front."""
    result = copied(model)
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in result.graph.initializer]
    rest = list(result.graph.node)
    del result.graph.initializer[:]
    del result.graph.node[:]
    result.graph.node.extend([*nodes, *rest])
    return result


def in_half_precision(model: ModelProto) -> ModelProto:
    """Return the model with float16 weights, inputs and outputs."""
    return in_precision(model, TensorProto.FLOAT16)


def in_precision(model: ModelProto, dtype: int, *, but: Container[str] = ()) -> ModelProto:
    """Return the model with weights, inputs and outputs of another element type than float32, except those `but`."""
    result = copied(model)
    for tensor in result.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in but:
            value = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(dtype))
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    for value in (*result.graph.input, *result.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = dtype
    return result


def in_form(model: ModelProto) -> ModelProto:
    """Return the model with attributes as inputs where its opset has them as inputs (axes, pads, split, ...)."""
    result = copied(model)
    opset = next(entry.version for entry in result.opset_import if not entry.domain)
    for node in result.graph.node:
        if node.domain:
            continue
        written = form(node.op_type, opset, {a.name: helper.get_attribute_value(a) for a in node.attribute})
        gone = [a for a in node.attribute if a.name not in written.attributes]
        for attribute in gone:
            node.attribute.remove(attribute)
        for position, value in sorted(written.inputs.items()):
            node.input.extend([""] * (position - len(node.input)))
            node.input.append(f"{node.output[0]}/{position}")
            result.graph.initializer.append(numpy_helper.from_array(value, node.input[position]))
    return result


LAYERS = frozenset(
    {
        *(
            "Conv",
            "ConvTranspose",
            "Gemm",
            "MatMul",
            "Einsum",
            "LSTM",
            "GRU",
            "RNN",
            "Gather",
            "BatchNormalization",
        ),
        *(
            "InstanceNormalization",
            "LayerNormalization",
            "GroupNormalization",
            "RMSNormalization",
            "FusedConv",
        ),
        *(
            "FusedMatMul",
            "FusedGemm",
            "BiasGelu",
            "SkipLayerNormalization",
            "SkipSimplifiedLayerNormalization",
        ),
    }
)
"""Operators that make channels of parameters."""


def behind_layers(model: ModelProto, op: Callable[[NodeProto], Sequence[str]]) -> ModelProto:
    """Return the model with the elementwise operators op(node) behind the first output of every layer `node`.

    Behind Sigmoid, Exp or Cos a removed channel holds a constant that is not zero. Layers that make an output of the
    model, and those that read no parameter, are left as they are.
    """
    result = copied(model)
    parameters = {t.name for t in result.graph.initializer if t.dims and t.data_type in FLOATS}
    outputs = {value.name for value in result.graph.output}
    nodes = list(result.graph.node)
    del result.graph.node[:]
    for node in nodes:
        result.graph.node.append(node)
        if node.op_type not in LAYERS or not parameters & set(node.input) or outputs & set(node.output):
            continue
        layer, last = result.graph.node[-1], node.output[0]
        for i, name in enumerate(op(node)):
            before = f"{last}/before{i}"
            if i == 0:
                layer.output[0] = before
            else:
                result.graph.node[-1].output[0] = before
            result.graph.node.append(helper.make_node(name, [before], [last]))
    return result


def first_layer(model: ModelProto, parameter: str) -> list[str]:
    """Return the outputs of the first layer that a parameter reaches, [] if there is none."""
    reached = {parameter}
    for node in model.graph.node:
        if reached & set(node.input):
            if node.op_type in LAYERS:
                return list(node.output)
            reached |= set(node.output)
    return []


def gated(model: ModelProto) -> ModelProto:
    """Return the model with a parameter per channel times what every Conv, Gemm and MatMul reads, but for model inputs.

    Where a channel is removed, the parameter is zero too: the layer reads zeros, whatever was there.
    """
    result = copied(model)
    shapes = {t.name: list(t.dims) for t in result.graph.initializer}
    outer = {value.name for value in result.graph.input} | set(shapes)
    nodes = list(result.graph.node)
    del result.graph.node[:]
    for node in nodes:
        for at in (0, 1):
            shape = _gate_shape(node, at, shapes)
            if shape is None or node.input[at] in outer:
                continue
            name = f"{node.output[0]}/gate"
            dtype = next(t.data_type for t in model.graph.initializer if t.name == node.input[1 - at])
            value = weight(name, shape, np.random.default_rng(1)).astype(
                helper.tensor_dtype_to_np_dtype(dtype)
            )
            result.graph.initializer.append(numpy_helper.from_array(value, name))
            result.graph.node.append(helper.make_node("Mul", [node.input[at], name], [f"{name}d"]))
            node.input[at] = f"{name}d"
        result.graph.node.append(node)
    return result


def _gate_shape(node: NodeProto, at: int, shapes: Mapping[str, list[int]]) -> list[int] | None:
    """Return the shape of one number per channel that a layer sums over in input `at`; None if there is no such."""
    if node.op_type not in ("Conv", "Gemm", "MatMul") or len(node.input) < 2 or node.domain:
        return None
    shape, attributes = shapes.get(node.input[1 - at]), {a.name: a.i for a in node.attribute}
    if not shape:
        return None
    if node.op_type == "Conv":
        return [shape[1] * attributes.get("group", 1), *(1 for _ in shape[2:])] if at == 0 else None
    if len(shape) == 1:
        return shape if at == 0 else [*shape, 1]
    inner = bool(attributes.get("transB" if at == 0 else "transA")) == (
        at == 0
    )  # the summed axis is the last one
    count = shape[-1] if inner else shape[-2]
    last = bool(attributes.get("transA" if at == 0 else "transB")) == (at == 1)
    return [count] if last else [count, 1]


def copied(model: ModelProto) -> ModelProto:
    """Return a copy."""
    result = ModelProto()
    result.CopyFrom(model)
    return result
