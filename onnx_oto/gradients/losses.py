"""Losses as ONNX subgraphs: each reads a model output and the target and ends in a float32 scalar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.errors import UnsupportedError

TARGET = "onnx_oto.target"
LOSS = "onnx_oto.loss"


@dataclass(frozen=True)
class Target:
    """What `step` must be given: dtype and shape [samples, ...]; `classes` bounds integer labels."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    classes: int | None = None


Emit = Callable[..., str]


def append(
    model: onnx.ModelProto, loss: str, output: str, shape: tuple[int, ...], weight: float
) -> Target | None:
    """Add `weight` times the mean loss to the graph as tensor LOSS, the target as input TARGET.

    `shape` is the static shape of `output`. Existing graph outputs are left alone. `weight` is the share of
    the batch that this graph sees, so that summing over shards gives the mean over the batch. Returns None
    when the model computes its own loss. Raises UnsupportedError when the output's shape does not suit the
    loss.
    """
    graph = model.graph

    def emit(op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{LOSS}.{len(graph.node)}"
        outputs = (
            [name, f"{name}.log_prob"] if op == "SoftmaxCrossEntropyLoss" else [name]
        )  # the gradient reads both
        graph.node.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return name

    if loss == "output":
        if int(np.prod(shape)) != 1:
            raise UnsupportedError(
                f"output {output!r} has shape {list(shape)}: the loss 'output' needs one number per batch"
            )
        target, value = None, _scalar(graph, emit, output)
    elif loss == "cross-entropy":
        logits = _behind(model, output, ("Softmax", "LogSoftmax"), len(shape))
        target, value = _cross_entropy(emit, logits, shape, output)
    else:
        target = Target(np.dtype(np.float32), shape)
        value = _ELEMENTWISE[loss](model, emit, output)
    if target is not None:
        kind = TensorProto.INT64 if target.classes else TensorProto.FLOAT
        graph.input.append(helper.make_tensor_value_info(TARGET, kind, target.shape))
    factor = _constant(graph, f"{LOSS}.weight", np.float32(weight))
    graph.node.append(helper.make_node("Mul", [value, factor], [LOSS], name=LOSS))
    return target


def _cross_entropy(emit: Emit, logits: str, shape: tuple[int, ...], output: str) -> tuple[Target, str]:
    """-log softmax(logits)[label], averaged; classes on axis 1, labels int64 [N, ...rest]."""
    if len(shape) < 2 or shape[1] < 2:
        raise UnsupportedError(
            f"output {output!r} has shape {list(shape)}: cross-entropy needs at least 2 classes on axis 1; "
            "use 'bce-with-logits' for one logit per sample, or 'mse' for a regression"
        )
    target = Target(np.dtype(np.int64), (shape[0], *shape[2:]), shape[1])
    return target, emit("SoftmaxCrossEntropyLoss", logits, TARGET, reduction="mean")


def _behind(model: onnx.ModelProto, output: str, activations: tuple[str, ...], rank: int) -> str:
    """Return the logits that a final activation turns into probabilities, because the loss contains its own.

    A Softmax counts only when it works over axis 1, the classes. Without such an activation: the output
    itself.
    """
    producer = {name: node for node in model.graph.node for name in node.output}
    node = producer.get(output)
    while node is not None and node.op_type == "Identity":
        node = producer.get(node.input[0])
    if node is None or node.op_type not in activations:
        return output
    axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
    return node.input[0] if node.op_type == "Sigmoid" or axis % rank == 1 else output


def _mean(emit: Emit, x: str) -> str:
    return emit("ReduceMean", x, keepdims=0)


def _mse(model: onnx.ModelProto, emit: Emit, x: str) -> str:
    """Mean over all elements of (x - t)^2."""
    error = emit("Sub", x, TARGET)
    return _mean(emit, emit("Mul", error, error))


def _l1(model: onnx.ModelProto, emit: Emit, x: str) -> str:
    """Mean over all elements of |x - t|."""
    return _mean(emit, emit("Abs", emit("Sub", x, TARGET)))


def _bce_with_logits(model: onnx.ModelProto, emit: Emit, x: str) -> str:
    """Mean of r - x t + log(1 + exp(x - 2 r)), r = relu(x): it cannot overflow and is right at x = 0."""
    x = _behind(model, x, ("Sigmoid",), 0)
    one = _constant(model.graph, f"{LOSS}.one", np.float32(1.0))
    r = emit("Relu", x)
    softplus = emit("Log", emit("Add", emit("Exp", emit("Sub", x, emit("Add", r, r))), one))
    return _mean(emit, emit("Add", emit("Sub", r, emit("Mul", x, TARGET)), softplus))


_ELEMENTWISE = {"mse": _mse, "l1": _l1, "bce-with-logits": _bce_with_logits}


def _scalar(graph: onnx.GraphProto, emit: Emit, x: str) -> str:
    """Return `x` as a tensor of rank 0."""
    return emit("Reshape", x, _constant(graph, f"{LOSS}.shape", np.zeros(0, np.int64)))


def _constant(graph: onnx.GraphProto, name: str, value: np.ndarray | np.generic) -> str:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name
