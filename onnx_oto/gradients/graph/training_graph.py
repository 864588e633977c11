"""From a model to the light graph that is evaluated and the static one that is trained: ONNX only, no runtime."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto, helper, version_converter

from onnx_oto.errors import ModelError, UnsupportedError, UsageError
from onnx_oto.gradients.graph.batching import Feed, feeds, set_batch
from onnx_oto.gradients.graph.facts import Covers
from onnx_oto.gradients.graph.loss_graph import lowered_loss
from onnx_oto.gradients.graph.lowering import Lowered, lower
from onnx_oto.gradients.graph.lowering.definitions import write_out
from onnx_oto.gradients.graph.open_batch import ADVICE, fixed_batch, open_batch
from onnx_oto.gradients.graph.parameters import Weights, detach
from onnx_oto.gradients.graph.static_types import types
from onnx_oto.gradients.spec import TrainingSpec
from onnx_oto.losses import LOSS, Loss, Target, make, read_all
from onnx_oto.model import Shape
from onnx_oto.model.files.loading import RUNTIME_IR, RUNTIME_OPSET
from onnx_oto.model.graph.names import name_nodes
from onnx_oto.model.graph.node import opset_of, set_opset
from onnx_oto.model.graph.order import drop_unneeded
from onnx_oto.model.normal.unrolled import unrolled

_OLDEST = 15  # BatchNormalization has its training mode since 15


@dataclass(frozen=True, eq=False)
class Detached:
    """A light model with an open batch, whose outputs are what the settled `loss` reads; weights apart; data inputs.

    `shapes` are those of the outputs that were named. `fixed` is the model as it was when its batch had to be opened;
    both must compute the same.
    """

    model: onnx.ModelProto
    weights: Weights
    feeds: tuple[Feed, ...]
    outputs: tuple[str, ...]
    loss: Loss
    shapes: tuple[Shape | None, ...]
    fixed: onnx.ModelProto | None = None


@dataclass(frozen=True, eq=False)
class TrainingGraph:
    """The graph of one shard of `size` samples: static, lowered, with the loss as output 0 and statistics after it."""

    lowered: Lowered
    targets: dict[str, Target]
    size: int


def detached(model: onnx.ModelProto, spec: TrainingSpec) -> Detached:
    """Return what is trained of a model; raises UnsupportedError or UsageError when nothing can be."""
    light, weights = detach(model, spec.trainable, spec.held, fixed_statistics=spec.fixed_statistics)
    light = _modern(light)
    name_nodes(light.graph)  # the runtime names what it fuses after its parts
    loss = make(spec.loss)
    named = choose_outputs(light, spec.output, loss)
    _cut(light, named)
    known = types(light)
    shapes = tuple(known[name].shape for name in named)
    loss = loss.settle(shapes, spec.target_shapes)
    outputs = tuple(read_all(light, named, loss))
    _cut(light, outputs)
    alive = {value.name for value in light.graph.input}
    moved = {name: value for name, value in weights.statistics.items() if name in alive}
    weights = weights._replace(statistics=moved)  # a norm of another output's branch sees no batch
    bound = weights.all()
    fixed = None
    if fixed_batch(light, bound) is not None and loss.per_sample:
        fixed, light = light, open_batch(light, bound, outputs)
    return Detached(light, weights, feeds_of(light, bound, spec), outputs, loss, shapes, fixed)


def feeds_of(light: onnx.ModelProto, weights: Collection[str], spec: TrainingSpec) -> tuple[Feed, ...]:
    """Return the data inputs of a light model. Raises UsageError for a sample shape of another model."""
    unknown = sorted(set(spec.sample_shapes) - {value.name for value in light.graph.input})
    if unknown:
        raise UsageError(f"sample shape given for {unknown[0]!r}: the model has no such input")
    return feeds(light, weights, spec.sample_shapes)


def lowered_for(what: Detached, spec: TrainingSpec, size: int, covers: Covers) -> Lowered:
    """Return the model of `size` samples in what a backend differentiates; refused nodes are listed in it."""
    try:
        static = set_batch(what.model, what.feeds, size)
    except ModelError:
        if what.fixed is None:
            raise
        raise UnsupportedError(
            f"the model is fixed to a batch of {fixed_batch(what.fixed, what.weights.all())}, and the shapes in it "
            f"contradict each other with another one: {ADVICE}"
        ) from None
    return lower(unrolled(static), spec.trainable, covers, fixed_statistics=spec.fixed_statistics)


def with_loss(lowered: Lowered, what: Detached, size: int, covers: Covers) -> TrainingGraph:
    """Return the graph with the loss appended, in what a backend differentiates.

    Raises UnsupportedError for an output that does not suit it, and for a loss of one's own that training cannot pass.
    """
    model = onnx.ModelProto()
    model.CopyFrom(lowered.model)
    shapes = output_shapes(model, what.outputs, what.loss, size)
    found, targets = lowered_loss(model, what.loss, what.outputs, shapes, size, covers)
    graph, part = model.graph, found.model.graph
    graph.node.extend(part.node)
    graph.initializer.extend(part.initializer)
    graph.input.extend(list(part.input)[len(what.outputs) :])
    del graph.output[: len(what.outputs)]
    graph.output.insert(0, helper.make_tensor_value_info(LOSS, TensorProto.FLOAT, []))
    lowered = replace(lowered, model=model, masks=(*lowered.masks, *found.masks))
    return TrainingGraph(lowered, targets, size)


def output_shapes(
    model: onnx.ModelProto, outputs: Sequence[str], loss: Loss, size: int
) -> list[tuple[int, ...]]:
    """Return the shapes of what a loss reads in a static model of `size` samples.

    Raises UnsupportedError for outputs that no loss reads.
    """
    known = types(model)
    shapes = []
    for output in outputs:
        shape, dtype = known[output].static, known[output].dtype
        if shape is None:
            raise UnsupportedError(
                f"the shape of output {output!r} cannot be inferred: simplify the model first"
            )
        if dtype != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(dtype).lower()
            raise UnsupportedError(f"output {output!r} is {kind}: the loss needs float32")
        if loss.per_sample and shape[:1] != (size,):
            raise UnsupportedError(
                f"output {output!r} has shape {list(shape)} for {size} samples: its first axis must be the batch"
            )
        shapes.append(shape)
    return shapes


def _modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in an opset the gradient builder reads, in place where it is too new.

    An old one is converted upwards. A newer one is taken as opset RUNTIME_OPSET if that knows all its operators: what
    opsets 22 to 24 changed in them are data types only. Operators that it does not know are written out as the
    standard defines them.
    """
    opset = opset_of(model)
    if opset > RUNTIME_OPSET:
        model = write_out(model, lambda op: not onnx.defs.has(op, RUNTIME_OPSET, ""))
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


def choose_outputs(model: onnx.ModelProto, wanted: str | Sequence[str] | None, loss: Loss) -> tuple[str, ...]:
    """Return the outputs that a loss reads. Raises UsageError for those that the model does not have."""
    names = [str(value.name) for value in model.graph.output]
    chosen = (
        names[: loss.outputs] if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    )
    for name in chosen:
        if name not in names:
            raise UsageError(f"the model has no output {name!r}: choose one of {', '.join(names)}")
    if len(chosen) != loss.outputs:
        raise UsageError(
            f"the loss {loss.name!r} reads {loss.outputs} outputs, not {len(chosen)} ({', '.join(chosen)}): "
            f"name {loss.outputs} of {', '.join(names)}"
        )
    return tuple(chosen)


def _cut(model: onnx.ModelProto, outputs: Sequence[str]) -> None:
    """Make these tensors the outputs, in place, and drop the nodes, constants and inputs that they do not need."""
    graph = model.graph
    declared = {value.name: value for value in graph.output}
    bare = [
        declared.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs
    ]
    del graph.output[:]
    graph.output.extend(bare)
    drop_unneeded(graph)
