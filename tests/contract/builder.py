"""Models for the contract: written as text for `onnx.parser`, every weight random.

A tensor that the text declares between `<` and `>` without a value, and that no node makes, becomes an
initializer of that shape with random values:

    build("g (float[N,3] x) => (float[N,2] y) <float[2,3] w> { y = Gemm<transB=1>(x, w) }")
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from onnx_oto.model.forms import form

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
    """Turn declared tensors that no node makes into random initializers, in place."""
    made = {name for node in model.graph.node for name in node.output}
    declared = [value for value in model.graph.value_info if value.name not in made]
    for value in declared:
        kind = value.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        model.graph.initializer.append(
            numpy_helper.from_array(weight(value.name, shape, rng).astype(dtype), value.name)
        )
    del model.graph.value_info[:]


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


def copied(model: ModelProto) -> ModelProto:
    """Return a copy."""
    result = ModelProto()
    result.CopyFrom(model)
    return result
