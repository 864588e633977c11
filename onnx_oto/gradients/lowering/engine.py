"""Walks the path from the trainable parameters to the loss, lowers what lies on it, collects what cannot be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.inference import Type, constants, types
from onnx_oto.gradients.lowering.differentiable import DIFFERENTIABLE, FLAT
from onnx_oto.gradients.lowering.registry import Draft, Mask, Site, key, lowering_of

_ROUNDS = 8  # a lowering may build on another; deeper nesting than this is a defect of ours
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
    """A training copy. `statistics`: running statistic -> tensor with its new value, a graph output as well."""

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
    """Return the nodes between `trainable` and the outputs of a static-shape model that training cannot handle."""
    return _lower(model, frozenset(trainable))[1]


def _lower(model: onnx.ModelProto, trainable: frozenset[str]) -> tuple[Lowered, list[Refusal]]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = next(o.version for o in copy.opset_import if o.domain in ("", "ai.onnx"))
    draft = Draft(opset, {}, {}, trainable)
    refusals: list[Refusal] = []
    for _ in range(_ROUNDS):
        if not _round(copy, draft, refusals):
            break
    for name, shape in ((mask.name, mask.shape) for mask in draft.masks):
        copy.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    known = types(copy)
    for statistic, latest in draft.statistics.items():
        shape = known[statistic].shape
        copy.graph.output.append(helper.make_tensor_value_info(latest, TensorProto.FLOAT, shape))
    return Lowered(copy, tuple(draft.masks), dict(draft.statistics)), refusals


def _round(model: onnx.ModelProto, draft: Draft, refusals: list[Refusal]) -> bool:
    """Lower every node on the path once; return whether anything changed. Refused nodes are recorded once."""
    graph = model.graph
    draft.types = types(model)
    draft.types.update({m.name: Type(TensorProto.FLOAT, m.shape) for m in draft.masks})
    draft.constants = constants(model)
    on_path = path(model, draft.trainable, draft.types)
    refused = {refusal.node for refusal in refusals}
    result: list[onnx.NodeProto] = []
    changed = False
    for index, node in enumerate(graph.node):
        replaced = None
        if index in on_path and (node.name or node.output[0]) not in refused:
            replaced = _site(node, draft, refusals)
        result.extend([node] if replaced is None else replaced)
        changed |= replaced is not None
    del graph.node[:]
    graph.node.extend(result)
    graph.initializer.extend(draft.initializers)
    draft.initializers.clear()
    return changed


def _site(node: onnx.NodeProto, draft: Draft, refusals: list[Refusal]) -> list[onnx.NodeProto] | None:
    """Return the nodes that replace `node`, or None when it stays; records a refusal when it cannot be trained."""
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
    names = [outcome] if isinstance(outcome, str) else list(outcome)
    for new, old in zip(names, node.output, strict=False):
        if old:
            site.nodes.append(helper.make_node("Identity", [new], [old], name=f"{old}.lowered"))
    return site.nodes


def _check(node: onnx.NodeProto) -> None:
    if key(node) not in DIFFERENTIABLE:
        raise UnsupportedError(
            "training has no gradient for this op; keep what feeds it out of training, or replace it in the model"
        )


def path(model: onnx.ModelProto, trainable: Collection[str], known: dict[str, Type]) -> set[int]:
    """Return the indices of the nodes that carry gradient from the graph outputs back to a trainable tensor.

    Only floating-point tensors carry gradient, and ops whose derivative is zero everywhere (FLAT) stop it.
    """
    carried = set(trainable)
    forward: set[int] = set()
    for index, node in enumerate(model.graph.node):
        if key(node) in FLAT or not any(name in carried for name in (*node.input, *_captured(node))):
            continue
        real = [n for n in node.output if n and known.get(n, Type(TensorProto.FLOAT, None)).dtype in _REAL]
        carried.update(real)
        if real:
            forward.add(index)
    wanted = {value.name for value in model.graph.output}
    found: set[int] = set()
    for index in range(len(model.graph.node) - 1, -1, -1):
        node = model.graph.node[index]
        if any(name in wanted for name in node.output):
            wanted.update(name for name in (*node.input, *_captured(node)) if name)
            if index in forward:
                found.add(index)
    return found


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return the outer tensors that the bodies of a node may read."""
    names: set[str] = set()
    bodies = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    for body in bodies:
        for inner in body.node:
            names.update(inner.input)
            names.update(_captured(inner))
    return names
