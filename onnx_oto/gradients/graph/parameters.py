"""Weights taken out of the graph: a light skeleton to rewrite, and arrays to bind as its inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.errors import UnsupportedError, UsageError

Floats = NDArray[np.float32]

_HEAVY = 4096  # elements; larger frozen float tensors are bound, too, rather than copied into every session


class Weights(NamedTuple):
    """The float32 arrays a skeleton expects as inputs, by initializer name.

    `trainable` in flat-buffer order, held ones behind; `statistics` of the BatchNormalization nodes that train;
    `frozen` the rest.
    """

    trainable: dict[str, Floats]
    statistics: dict[str, Floats]
    frozen: dict[str, Floats]

    def all(self) -> dict[str, Floats]:
        return {**self.trainable, **self.statistics, **self.frozen}


def detach(
    model: onnx.ModelProto,
    trainable: tuple[str, ...],
    held: tuple[str, ...] = (),
    *,
    fixed_statistics: bool = False,
) -> tuple[onnx.ModelProto, Weights]:
    """Return a copy of the model with its weights as graph inputs, and the weights.

    `model` is not modified. Small constants stay initializers. held, fixed_statistics: see `TrainingSpec`; a
    BatchNormalization of which nothing trains keeps its statistics. Raises UsageError for a trainable name that is
    no initializer and UnsupportedError for one that is not float32.
    """
    graph = model.graph
    by_name = {tensor.name: tensor for tensor in graph.initializer}
    flat = (*trainable, *held)
    _check(by_name, flat)
    training = [node for node in graph.node if trains(node, trainable, fixed_statistics)]
    statistics = _statistics(training, trainable, by_name)
    chosen = {*flat, *statistics}
    heavy = [
        tensor.name
        for tensor in graph.initializer
        if tensor.name not in chosen
        and tensor.data_type == TensorProto.FLOAT
        and np.prod(tensor.dims) > _HEAVY
    ]
    weights = Weights(
        *(
            {name: numpy_helper.to_array(by_name[name]) for name in names}
            for names in (flat, statistics, heavy)
        )
    )
    return _skeleton(model, weights.all()), weights


def _check(by_name: dict[str, TensorProto], trainable: tuple[str, ...]) -> None:
    for name in trainable:
        if name not in by_name:
            raise UsageError(f"trainable parameter {name!r} is not an initializer of the model")
        if by_name[name].data_type != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(by_name[name].data_type).lower()
            raise UnsupportedError(
                f"parameter {name!r} is {kind}: training needs float32; convert the model to float32 first"
            )


def trains(node: onnx.NodeProto, trainable: Collection[str], fixed_statistics: bool = False) -> bool:
    """Return whether a node is a BatchNormalization that uses statistics of the batch in training.

    Its scale or shift is trainable and statistics are not fixed, or it does so wherever it runs.
    """
    if node.op_type != "BatchNormalization":
        return False
    learns = any(name in trainable for name in node.input[1:3]) and not fixed_statistics
    return learns or any(attr.name == "training_mode" and attr.i for attr in node.attribute)


def _statistics(
    nodes: Iterable[onnx.NodeProto], trainable: Collection[str], by_name: dict[str, TensorProto]
) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for node in nodes:
        for name in node.input[3:5]:
            if name not in by_name or by_name[name].data_type != TensorProto.FLOAT:
                raise UnsupportedError(
                    f"node {node.name!r} (BatchNormalization): its running statistic {name!r} is no float32 "
                    "initializer and cannot be updated; leave its scale and shift out of training"
                )
            if name in trainable:
                raise UsageError(
                    f"{name!r} is a running statistic of BatchNormalization, not a trainable parameter"
                )
            names[name] = None
    return tuple(names)


def _skeleton(model: onnx.ModelProto, weights: dict[str, Floats]) -> onnx.ModelProto:
    """Copy everything but the payload of `weights`, stored value_info and documentation."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name or "training"
    graph.node.extend(model.graph.node)
    graph.initializer.extend(t for t in model.graph.initializer if t.name not in weights)
    constant = {t.name for t in model.graph.initializer}
    graph.input.extend(v for v in model.graph.input if v.name not in constant)
    graph.output.extend(model.graph.output)
    for name, value in weights.items():
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    return copy


def with_constants(skeleton: onnx.ModelProto, weights: Mapping[str, Floats]) -> bytes:
    """Return the serialised skeleton with these of its inputs as initializers again."""
    whole = onnx.ModelProto()
    whole.CopyFrom(skeleton)
    data = [value for value in whole.graph.input if value.name not in weights]
    del whole.graph.input[:]
    whole.graph.input.extend(data)
    whole.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return bytes(whole.SerializeToString())
