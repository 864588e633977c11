"""One-op models and two independent gradients of them: ours, and central differences in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onnx_oto.gradients import Backend, TrainingSpec, choose_backend, prepare

from .recurrent_reference import RECURRENT
from .sampling_reference import SAMPLING

Array = NDArray[Any]
STEP = 1e-5  # of the central differences: error about STEP^2, and about 1e-16 / STEP from rounding
FLOAT32 = 2e-5  # largest error of a float32 gradient allowed here, relative to the largest entry


@dataclass(frozen=True)
class Row:
    """A graph body in ONNX text that reads `params` and `constants` and writes `outputs`.

    A shape is filled with seeded normal numbers. The first axis of the first parameter is the batch. The loss
    is the sum of the outputs times fixed random weights.
    """

    op: str
    body: str
    params: Mapping[str, tuple[int, ...] | Array]
    constants: Mapping[str, Array] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("y",)
    opset: int = 17
    label: str = ""
    tolerance: float = FLOAT32
    twin: str = ""  # the same function in other ops, where onnx.reference has no or a wrong implementation
    runs: bool = True  # whether ONNX Runtime can run the original at all

    @property
    def id(self) -> str:
        return f"{self.op}-{self.label}" if self.label else self.op

    def values(self) -> dict[str, Array]:
        rng = np.random.default_rng(sum(map(ord, self.op)))
        return {
            name: rng.standard_normal(what) if isinstance(what, tuple) else np.asarray(what, np.float64)
            for name, what in self.params.items()
        }


class Erf64(OpRun):  # type: ignore[misc]
    """onnx.reference computes Erf in float32, too coarse for differences."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype),)


Erf64.__name__ = "Erf"


def reference(model: onnx.ModelProto) -> ReferenceEvaluator:
    return ReferenceEvaluator(model, new_ops=[Erf64, *RECURRENT, *SAMPLING])


def model_of(row: Row, body: str = "") -> onnx.ModelProto:
    """Return the row as a model: parameters are initializers, the input `data` is added to the first one."""
    values = row.values()
    first = next(iter(values))
    shape = values[first].shape
    signature = ", ".join(f"float[{','.join(map(str, v.shape))}] {k}" for k, v in values.items())
    outputs = ", ".join(f"float {name}" for name in row.outputs)
    header = f'<ir_version: 8, opset_import: ["": {row.opset}, "com.microsoft": 1]>'
    text = f"{header} g ({signature}) => ({outputs}) {{ {body or row.body} }}"
    model = onnx.parser.parse_model(text)
    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in row.constants.items())
    shaped = onnx.parser.parse_model(text.replace(body or row.body, row.twin or row.body))
    shaped.graph.initializer.extend(graph.initializer)
    with np.errstate(all="ignore"):
        results = reference(shaped).run(None, {k: v.astype(np.float32) for k, v in values.items()})
    _append_loss(graph, {name: result.shape for name, result in zip(row.outputs, results, strict=True)})
    graph.node.insert(0, helper.make_node("Add", [f"{first}.param", "data"], [first], name="entry"))
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("data", TensorProto.FLOAT, ["N", *shape[1:]]))
    for name, value in values.items():
        stored = f"{name}.param" if name == first else name
        graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), stored))
    return model


def _append_loss(graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]]) -> None:
    rng = np.random.default_rng(7)
    for name, shape in shapes.items():
        weight = rng.standard_normal(shape).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(np.asarray(weight), f"{name}.weight"))
        graph.node.append(helper.make_node("Mul", [name, f"{name}.weight"], [f"{name}.weighted"]))
        graph.node.append(helper.make_node("ReduceSum", [f"{name}.weighted"], [f"{name}.sum"], keepdims=0))
    graph.node.append(helper.make_node("Sum", [f"{name}.sum" for name in shapes], ["loss"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))


def trainable(row: Row) -> tuple[str, ...]:
    first, *others = row.params
    return (f"{first}.param", *others)


def ours(row: Row, backend: Backend | None = None) -> tuple[float, float | None, dict[str, Array]]:
    """Return (loss of the training graph, loss of the original graph, gradients), all from ONNX Runtime."""
    batch = row.values()[next(iter(row.params))].shape
    spec = TrainingSpec(trainable(row), "output", batch=batch[0], shards=1)
    session = prepare(model_of(row), spec, backend or choose_backend()).build()
    data = {"data": np.zeros(batch, np.float32)}
    loss = session.step(data, None)
    grads = {
        name: session.grads[offset : offset + int(np.prod(shape))].reshape(shape)
        for name, (offset, shape) in session.slices.items()
    }
    original = float(session.predict(data)) if row.runs else None
    session.close()
    return loss, original, grads


_found: dict[str, tuple[float, dict[str, Array]]] = {}


def known_differences(row: Row) -> tuple[float, dict[str, Array]]:
    """Return the differences of a row of a table, which are the same for every backend."""
    if row.id not in _found:
        _found[row.id] = differences(row)
    return _found[row.id]


def differences(row: Row) -> tuple[float, dict[str, Array]]:
    """Return the loss and its gradient by central differences, both in float64 from onnx.reference."""
    run = reference(in_double(model_of(row, row.twin)))
    values = {
        name: value.astype(np.float32).astype(np.float64)
        for name, value in zip(trainable(row), row.values().values(), strict=True)
    }
    data = np.zeros(next(iter(values.values())).shape)

    def loss(**moved: Array) -> float:
        return float(run.run(["loss"], {**values, **moved, "data": data})[0])

    gradient = {}
    for name, value in values.items():
        gradient[name] = np.zeros(value.shape)
        for place in np.ndindex(*value.shape):
            up, down = value.copy(), value.copy()
            up[place] += STEP
            down[place] -= STEP
            gradient[name][place] = (loss(**{name: up}) - loss(**{name: down})) / (2 * STEP)
    return loss(), gradient


def in_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float64 copy of a float32 model whose parameters are inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    constants = []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        kind = np.float64 if array.dtype == np.float32 else array.dtype
        constants.append(numpy_helper.from_array(array.astype(kind), tensor.name))
    del graph.initializer[:]
    graph.initializer.extend(constants)
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    graph.input.extend(
        helper.make_tensor_value_info(t.name, TensorProto.DOUBLE, t.dims)
        for t in constants
        if t.data_type == 11
    )
    return copy
