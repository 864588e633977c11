"""Walks the path from the trainable parameters to the outputs and lowers what lies on it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.differentiable import DIFFERENTIABLE
from onnx_oto.gradients.graph.lowering.registry import Draft, Mask, Site, key, lowering_of
from onnx_oto.gradients.graph.types import Type, constants, types
from onnx_oto.model.graph.node import opset_of

_ROUNDS = 8  # a lowering may build on another; deeper nesting than this is a defect of ours
_ASSUMED = Type(TensorProto.FLOAT, None)
_REAL = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


@dataclass(frozen=True)
class Refusal:
    """A node that training cannot pass through, and what the user can do about it."""

    node: str
    op: str
    advice: str

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.op}): {self.advice}"


@dataclass(frozen=True)
class Lowered:
    """A training copy. `statistics`: running statistic -> tensor with its new value, also an output."""

    model: onnx.ModelProto
    masks: tuple[Mask, ...]
    statistics: dict[str, str]


def lower(model: onnx.ModelProto, trainable: Collection[str]) -> Lowered:
    """Return a training copy of a static-shape model; graph outputs are what the gradient flows back from.

    `trainable` are initializers or graph inputs. Raises UnsupportedError naming every node that is refused.
    """
    lowered, refusals = _lower(model, frozenset(trainable))
    if refusals:
        raise UnsupportedError("; ".join(map(str, refusals)))
    return lowered


def unsupported(model: onnx.ModelProto, trainable: Collection[str]) -> list[Refusal]:
    """Return the nodes on the path of a static-shape model that training cannot handle."""
    return _lower(model, frozenset(trainable))[1]


def _lower(model: onnx.ModelProto, trainable: frozenset[str]) -> tuple[Lowered, list[Refusal]]:
    """Lower in rounds until nothing changes; what the last round refuses stays refused.

    A later round may succeed where an earlier one failed: lowering an op whose shape inference is missing
    reveals the shapes behind it.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    draft = Draft(opset_of(copy), trainable)
    for _ in range(_ROUNDS):
        changed, refusals = _round(copy, draft)
        if not changed:
            break
    known = types(copy)
    for statistic, latest in draft.statistics.items():
        copy.graph.output.append(
            helper.make_tensor_value_info(latest, TensorProto.FLOAT, known[statistic].shape)
        )
    return Lowered(copy, tuple(draft.masks), dict(draft.statistics)), refusals


def _round(model: onnx.ModelProto, draft: Draft) -> tuple[bool, list[Refusal]]:
    """Lower every node on the path once; return whether anything changed, and what was refused."""
    graph = model.graph
    draft.types = types(model)
    draft.constants = constants(model)
    on_path = path(model, draft.trainable, draft.types)
    draft.carried = {*draft.trainable, *(name for i in on_path for name in graph.node[i].output)}
    draft.read = {name for node in graph.node for name in reads(node)} | {v.name for v in graph.output}
    drawn = len(draft.masks)
    result: list[onnx.NodeProto] = []
    refusals: list[Refusal] = []
    changed = False
    for index, node in enumerate(graph.node):
        replaced = _site(node, draft, refusals) if index in on_path else None
        result.extend([node] if replaced is None else replaced)
        changed |= replaced is not None
    del graph.node[:]
    graph.node.extend(result)
    graph.initializer.extend(draft.initializers)
    draft.initializers.clear()
    for mask in draft.masks[drawn:]:
        graph.input.append(helper.make_tensor_value_info(mask.name, TensorProto.FLOAT, mask.shape))
    return changed, refusals


def _site(node: onnx.NodeProto, draft: Draft, refusals: list[Refusal]) -> list[onnx.NodeProto] | None:
    """Return the nodes that replace `node`, or None when it stays; records what is refused."""
    site = Site(node, draft)
    function = lowering_of(node)
    try:
        outcome = function(site) if function else None
        if outcome is None:
            _check(node)
            return None
    except UnsupportedError as error:
        refusals.append(Refusal(node.name or node.output[0], key(node), str(error)))
        return None
    draft.initializers.extend(site.initializers)
    names = [outcome] if isinstance(outcome, str) else list(outcome)
    renamed = [(new, old) for new, old in zip(names, node.output, strict=False) if new and old]
    ends = [helper.make_node("Identity", [new], [old], name=f"{old}.lowered") for new, old in renamed]
    return [*site.nodes, *ends]


def _check(node: onnx.NodeProto) -> None:
    if key(node) not in DIFFERENTIABLE:
        raise UnsupportedError(
            "training has no gradient for this op; leave what feeds it untrained, or replace it"
        )


def path(model: onnx.ModelProto, trainable: Collection[str], known: dict[str, Type]) -> set[int]:
    """Return the indices of the nodes that carry gradient from the graph outputs back to a trainable tensor.

    Only floating-point tensors carry gradient: a comparison or a cast to integers ends it.
    """
    carried = set(trainable)
    forward: set[int] = set()
    for index, node in enumerate(model.graph.node):
        if carried.isdisjoint(reads(node)):
            continue
        real = [n for n in node.output if n and known.get(n, _ASSUMED).dtype in _REAL]
        carried.update(real)
        if real:
            forward.add(index)
    wanted = {value.name for value in model.graph.output}
    found: set[int] = set()
    for index in sorted(forward, reverse=True):
        node = model.graph.node[index]
        if not wanted.isdisjoint(node.output):
            found.add(index)
            wanted |= reads(node)
    return found


def reads(node: onnx.NodeProto) -> set[str]:
    """Return the tensors a node reads, those that its bodies capture included."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            for inner in attribute.g.node:
                names |= reads(inner)
            names.update(value.name for value in attribute.g.output)
    return names
