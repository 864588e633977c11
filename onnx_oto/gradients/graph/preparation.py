"""From the user's model to the light graphs that are trained and evaluated: ONNX only, no runtime."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper, version_converter

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients import losses
from onnx_oto.gradients.covered import covers
from onnx_oto.gradients.graph.batching import Feed, feeds, set_batch
from onnx_oto.gradients.graph.lowering import Lowered, Refusal, lower, unsupported
from onnx_oto.gradients.graph.lowering.engine import reads
from onnx_oto.gradients.graph.open_batch import fixed_batch, open_batch
from onnx_oto.gradients.graph.parameters import Weights, detach
from onnx_oto.gradients.graph.types import types
from onnx_oto.gradients.losses import Target
from onnx_oto.gradients.spec import TrainingSpec
from onnx_oto.model.files.loading import RUNTIME_IR, RUNTIME_OPSET
from onnx_oto.model.graph.node import opset_of, set_opset

_OLDEST = 15  # BatchNormalization has its training mode since 15


@dataclass(frozen=True)
class Prepared:
    """A skeleton with an open batch and one output, its weights and its data inputs.

    `fixed` is the skeleton as it was when its batch had to be opened; both must compute the same.
    """

    model: onnx.ModelProto
    weights: Weights
    feeds: tuple[Feed, ...]
    output: str
    fixed: onnx.ModelProto | None = None


@dataclass(frozen=True)
class Training:
    """The graph of one shard: static batch, lowered, with the loss as output 0 and statistics after it."""

    lowered: Lowered
    target: Target | None
    size: int


def prepare(model: onnx.ModelProto, spec: TrainingSpec) -> Prepared:
    """Return the skeleton of a model; raises UnsupportedError or UsageError when nothing can be trained."""
    skeleton, weights = detach(model, spec.trainable)
    skeleton = _modern(skeleton)
    output = _choose_output(skeleton, spec.output)
    _cut(skeleton, output)
    unknown = sorted(set(spec.sample_shapes) - {value.name for value in model.graph.input})
    if unknown:
        raise UsageError(f"sample shape given for {unknown[0]!r}: the model has no such input")
    bound = weights.all()
    fixed = None
    if fixed_batch(skeleton, bound) is not None and spec.loss != "output":
        fixed, skeleton = skeleton, open_batch(skeleton, bound, output)
    inputs = feeds(skeleton, bound, spec.sample_shapes)
    return Prepared(skeleton, weights, inputs, output, fixed)


def training_graph(prepared: Prepared, spec: TrainingSpec, size: int) -> Training:
    """Return the training graph of a shard of `size` samples; raises UnsupportedError naming the nodes."""
    lowered = lower(set_batch(prepared.model, prepared.feeds, size), spec.trainable, covers)
    graph = lowered.model.graph
    shape = _output_shape(lowered.model, prepared.output)
    if spec.loss != "output" and shape[:1] != (size,):
        raise UnsupportedError(
            f"output {prepared.output!r} has shape {list(shape)} for {size} samples: "
            "its first axis must be the batch"
        )
    target = losses.append(lowered.model, spec.loss, prepared.output, shape, size / spec.batch)
    del graph.output[0]
    graph.output.insert(0, helper.make_tensor_value_info(losses.LOSS, TensorProto.FLOAT, []))
    return Training(lowered, target, size)


def refusals(model: onnx.ModelProto, spec: TrainingSpec) -> list[Refusal]:
    """Return what training could not handle in a model, without a runtime and before any data are read."""
    prepared = prepare(model, spec)
    return unsupported(set_batch(prepared.model, prepared.feeds, min(2, spec.batch)), spec.trainable, covers)


def _output_shape(model: onnx.ModelProto, output: str) -> tuple[int, ...]:
    known = types(model)[output]
    if known.static is None:
        raise UnsupportedError(f"the shape of output {output!r} cannot be inferred: simplify the model first")
    if known.dtype != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(known.dtype).lower()
        raise UnsupportedError(f"output {output!r} is {kind}: the loss needs float32")
    return known.static


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in an opset the gradient builder reads, in place where it is too new.

    An old one is converted upwards. A newer one is taken as opset RUNTIME_OPSET if that knows all its operators: what
    opsets 22 to 24 changed in them are data types only.
    """
    opset = opset_of(model)
    if opset > RUNTIME_OPSET:
        _refuse_unknown(model, opset)
        set_opset(model, RUNTIME_OPSET)
    if opset < _OLDEST:
        try:
            model = version_converter.convert_version(model, _OLDEST)
        except Exception as error:
            raise UnsupportedError(
                f"the model uses opset {opset}, training needs {_OLDEST} to {RUNTIME_OPSET}, and converting it "
                f"failed ({str(error).splitlines()[0]}): export it with a newer opset"
            ) from error
    model.ir_version = min(model.ir_version, RUNTIME_IR)
    return model


def _refuse_unknown(model: onnx.ModelProto, opset: int) -> None:
    for node in model.graph.node:
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, RUNTIME_OPSET, ""):
            raise UnsupportedError(
                f"node {node.name!r}: {node.op_type} is of opset {opset}, training reads up to {RUNTIME_OPSET}: export "
                "the model with an older opset, or use 'prune', which needs no training"
            )


def _choose_output(model: onnx.ModelProto, wanted: str | None) -> str:
    names = [value.name for value in model.graph.output]
    if wanted is None:
        return str(names[0])
    if wanted not in names:
        raise UsageError(f"the model has no output {wanted!r}: choose one of {', '.join(names)}")
    return wanted


def _cut(model: onnx.ModelProto, output: str) -> None:
    """Drop, in place, every output but one and the nodes, constants and inputs that only the others need."""
    graph = model.graph
    outputs = [value for value in graph.output if value.name == output]
    del graph.output[:]
    graph.output.extend(outputs)
    needed = {output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if any(name in needed for name in node.output if name):
            kept.append(node)
            needed |= reads(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    for field in (graph.initializer, graph.input):
        alive = [item for item in field if item.name in needed]
        del field[:]
        field.extend(alive)
