"""Walks the path from the trainable parameters to the outputs and lowers what lies on it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx
from onnx import TensorProto, helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.facts import Covers, Facts
from onnx_oto.gradients.graph.lowering.lowerings import ALWAYS_LOWERED, Draft, Mask, Site, key, lowering_of
from onnx_oto.gradients.graph.static_types import Type, constants, types
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


def listed(refusals: Sequence[Refusal], most: int) -> str:
    """Return refusals in one line: each reason once, with the first node that it holds for, `most` reasons at most."""
    alike: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        alike.setdefault(re.sub("'[^']*'", "", refusal.advice), []).append(refusal)
    shown = list(alike.values())[:most]
    rest = len(refusals) - sum(map(len, shown))
    return "; ".join(map(_together, shown)) + (f"; and {rest} more nodes" if rest else "")


def _together(alike: Sequence[Refusal]) -> str:
    first, *others = alike
    if not others:
        return str(first)
    return f"node {first.node!r} ({first.op}) and {len(others)} more: {first.advice}"


@dataclass(frozen=True)
class Lowered:
    """A training copy. `statistics`: running statistic -> tensor with its new value, also an output.

    `refusals` are the nodes on the path that training cannot pass through; with any, the copy is good for nothing else.
    """

    model: onnx.ModelProto
    masks: tuple[Mask, ...]
    statistics: dict[str, str]
    refusals: tuple[Refusal, ...] = ()


def lower(
    model: onnx.ModelProto,
    trainable: Collection[str],
    covers: Covers,
    *,
    fixed_statistics: bool = False,
    prefix: str = "onnx_oto",
) -> Lowered:
    """Return a training copy of a static-shape model; graph outputs are what the gradient flows back from.

    `trainable` are initializers or graph inputs. A node on the path that `covers` accepts stays as it is, any other
    goes to its lowering; in rounds until nothing changes, and what the last round refuses stays refused. A later round
    may succeed where an earlier one failed: lowering an op whose shape inference is missing reveals the shapes behind
    it. fixed_statistics: see `TrainingSpec`.
    prefix: of the names of what is written.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    draft = Draft(opset_of(copy), frozenset(trainable), fixed_statistics, prefix=prefix)
    for _ in range(_ROUNDS):
        changed, refusals = _round(copy, draft, covers)
        if not changed:
            break
    else:
        raise AssertionError(f"lowering does not come to an end in {_ROUNDS} rounds")
    known = types(copy)
    for statistic, latest in draft.statistics.items():
        copy.graph.output.append(
            helper.make_tensor_value_info(latest, TensorProto.FLOAT, known[statistic].shape)
        )
    return Lowered(copy, tuple(draft.masks), dict(draft.statistics), tuple(refusals))


def _round(model: onnx.ModelProto, draft: Draft, covers: Covers) -> tuple[bool, list[Refusal]]:
    """Lower every node on the path once; return whether anything changed, and what was refused."""
    graph = model.graph
    draft.types = types(model)
    draft.constants = constants(model)
    on_path = path(model, draft.trainable, draft.types)
    draft.carried = {*draft.trainable, *(name for i in on_path for name in graph.node[i].output)}
    draft.read = {name for node in graph.node for name in reads(node)} | {v.name for v in graph.output}
    facts = _facts(draft)
    drawn = len(draft.masks)
    result: list[onnx.NodeProto] = []
    refusals: list[Refusal] = []
    changed = False
    for index, node in enumerate(graph.node):
        replaced = _site(node, draft, covers(node, facts), refusals) if index in on_path else None
        result.extend([node] if replaced is None else replaced)
        changed |= replaced is not None
    del graph.node[:]
    graph.node.extend(result)
    graph.initializer.extend(draft.initializers)
    draft.initializers.clear()
    for mask in draft.masks[drawn:]:
        graph.input.append(helper.make_tensor_value_info(mask.name, TensorProto.FLOAT, mask.shape))
    return changed, refusals


def _facts(draft: Draft) -> Facts:
    return Facts(
        shapes={name: kind.static for name, kind in draft.types.items() if kind.static is not None},
        dtypes={name: kind.dtype for name, kind in draft.types.items()},
        constants={name: value for name, value in draft.constants.items() if name not in draft.trainable},
        carried=draft.carried,
        read=draft.read,
        ranks={name: len(kind.shape) for name, kind in draft.types.items() if kind.shape is not None},
    )


def _site(
    node: onnx.NodeProto, draft: Draft, reason: str | None, refusals: list[Refusal]
) -> list[onnx.NodeProto] | None:
    """Return the nodes that replace `node`, or None when it stays; records what is refused.

    `reason` is why it cannot stay as it is, None when it can: then only an op that training changes is lowered.
    """
    if reason is None and key(node) not in ALWAYS_LOWERED:
        return None
    site = Site(node, draft)
    function = lowering_of(node)
    try:
        outcome = function(site) if function else None
    except UnsupportedError as error:
        outcome, reason = None, str(error)
    if outcome is None:
        if reason is not None:
            refusals.append(Refusal(node.name or node.output[0], key(node), reason))
        return None
    draft.initializers.extend(site.initializers)
    names = [outcome] if isinstance(outcome, str) else list(outcome)
    renamed = [(new, old) for new, old in zip(names, node.output, strict=False) if new and old]
    ends = [helper.make_node("Identity", [new], [old], name=f"{old}.lowered") for new, old in renamed]
    return [*site.nodes, *ends]


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
