"""Types and shapes of every tensor, inferred anew, and constants folded until nothing changes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from onnx_oto.errors import ModelError

_SMALL = 4096  # elements; larger tensors are never computed here


class Type(NamedTuple):
    """A tensor's ONNX element type and shape; None for an unknown size, or for the shape of unknown rank."""

    dtype: int
    shape: tuple[int | None, ...] | None

    @property
    def static(self) -> tuple[int, ...] | None:
        """The shape when every size is known."""
        known = None if self.shape is None else tuple(size for size in self.shape if size is not None)
        return known if known is not None and len(known) == len(self.shape or ()) else None

    @property
    def size(self) -> float:
        """The number of elements, infinite when a size is unknown."""
        return math.inf if self.static is None else math.prod(self.static)


UNKNOWN = Type(TensorProto.UNDEFINED, None)


def types(model: onnx.ModelProto) -> dict[str, Type]:
    """Return the type of every tensor that inference reaches, by name; stored value_info is not trusted."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    try:
        graph = shape_inference.infer_shapes(bare, data_prop=True).graph
    except Exception as error:
        raise ModelError(f"shapes cannot be inferred: {str(error).splitlines()[0]}") from error
    found = {tensor.name: Type(tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        found.setdefault(value.name, Type(tensor.elem_type, shape if tensor.HasField("shape") else None))
    return found


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the values of the initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def fold(model: onnx.ModelProto) -> None:
    """Replace, in place, nodes whose output is a small constant (shape arithmetic above all) by initializers.

    With a static batch most `Shape -> Gather -> Concat -> Reshape` chains become constants; gradients then
    never meet them. Rounds alternate with shape inference until nothing changes.
    """
    while True:
        known = types(model)
        values = constants(model)
        kept: list[onnx.NodeProto] = []
        for node in model.graph.node:
            result = _evaluate(node, known, values, model)
            if result is None:
                kept.append(node)
                continue
            values.update(result)
            model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in result.items())
        if len(kept) == len(model.graph.node):
            return
        del model.graph.node[:]
        model.graph.node.extend(kept)


def _evaluate(
    node: onnx.NodeProto, known: dict[str, Type], values: dict[str, NDArray[Any]], model: onnx.ModelProto
) -> dict[str, NDArray[Any]] | None:
    """Return the constant outputs of a node, or None when it is not constant, large, random or has a body."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _NEVER or _has_body(node):
        return None
    if node.op_type in ("Shape", "Size"):
        static = known.get(node.input[0], UNKNOWN).static
        if static is None:
            return None
        shape = np.array(static, np.int64)
        if node.op_type == "Size":
            return {node.output[0]: np.array(shape.prod(), np.int64)}
        start, end = (_int(node, name, default) for name, default in (("start", 0), ("end", len(shape))))
        return {node.output[0]: shape[start:end]}
    if not node.input or any(name and name not in values for name in node.input):
        return None
    if max(values[name].size for name in node.input if name) > _SMALL:
        return None
    outputs = [known.get(name, UNKNOWN).size for name in node.output if name]
    return _run(node, values, model) if all(size <= _SMALL for size in outputs) else None


_NEVER = {"Constant", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"}
_NEVER |= {"Multinomial", "Dropout", "BatchNormalization", "QuantizeLinear", "DequantizeLinear"}


def _run(
    node: onnx.NodeProto, values: dict[str, NDArray[Any]], model: onnx.ModelProto
) -> dict[str, NDArray[Any]] | None:
    inputs = {name: values[name] for name in node.input if name}
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "constant",
        [
            helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for k, v in inputs.items()
        ],
        [helper.make_tensor_value_info(k, TensorProto.UNDEFINED, None) for k in outputs],
    )
    try:
        one = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(one).run(outputs, inputs)
    except Exception:  # the reference lacks the op or refuses the input: then it simply stays in the graph
        return None
    return dict(zip(outputs, map(np.asarray, results), strict=True))


def _has_body(node: onnx.NodeProto) -> bool:
    return any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)


def _int(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((a.i for a in node.attribute if a.name == name), default)
