"""What a model can be taught by: the float tensors in front of what no gradient passes.

A detector ends in a tail that chooses places (TopK, NonMaxSuppression, NonZero, indices of a Gather): what comes out of
it depends on parameters in jumps, and is in another order when scores change a little. In front of it everything is
smooth. Which tensors those are follows from what every operator is in every input, not from names of models:

still    depends on no parameter that trains
smooth   floats that depend on some of them by operators that have a slope nearly everywhere
step     values that are constant but for jumps, each in its own place: comparisons, rounding, masks. No gradient comes
         through them, but what is multiplied by one or chosen by one stays smooth
jumped   places, orders or numbers of elements that depend on parameters, and all that is computed with them
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from onnx_oto.gradients.graph.lowering.engine import reads
from onnx_oto.gradients.graph.lowering.lowerings import REFUSED, key
from onnx_oto.gradients.graph.static_types import Type, types
from onnx_oto.model.graph.order import drop_unneeded

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})

CHOOSING = frozenset(
    "ArgMax ArgMin Compress NonMaxSuppression NonZero OneHot Range ReverseSequence TopK Unique".split()  # noqa: SIM905
)
"""Operators whose places, order or number of elements follow from values that they read."""
_BITS = "BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor"
_LOGIC = "And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Xor"
STEPPING = frozenset(f"{_BITS} {_LOGIC} Ceil Floor Hardmax IsInf IsNaN Round Sign".split())
"""Operators whose results are constant but for jumps."""
INDICES: Mapping[str, tuple[int, ...]] = {
    "CenterCropPad": (1,),
    "Expand": (1,),
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "Pad": (1, 3),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "ConstantOfShape": (0,),
    "TensorScatter": (2,),
}
"""Inputs that say which elements, or how many: what depends on parameters there lets the result jump."""


class Way(IntEnum):
    """How a tensor depends on the parameters that train, the worst last."""

    STILL = 0
    STEP = 1
    SMOOTH = 2
    JUMPED = 3


def ways(
    model: ModelProto, trained: Collection[str], known: Mapping[str, Type] | None = None
) -> dict[str, Way]:
    """Return how every tensor of a model depends on these initializers."""
    known = types(model) if known is None else known
    found = dict.fromkeys(trained, Way.SMOOTH)
    for node in model.graph.node:
        way = _way(node, found)
        for name in filter(None, node.output):
            kind = known.get(name)
            is_float = kind is None or kind.dtype in _FLOATS
            found[name] = Way.STEP if way is Way.SMOOTH and not is_float else way
    return found


def _way(node: NodeProto, found: Mapping[str, Way]) -> Way:
    """Return how what a node computes depends on parameters, were it floats."""
    read = [found.get(name, Way.STILL) for name in node.input]
    worst = max((found.get(name, Way.STILL) for name in reads(node)), default=Way.STILL)
    if worst in (Way.STILL, Way.JUMPED):
        return worst
    op = key(node)
    has_body = any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute)
    if op in CHOOSING or op in REFUSED or has_body:
        return Way.JUMPED
    if any(read[at] for at in INDICES.get(op, ()) if at < len(read)):
        return Way.JUMPED
    if op in ("Shape", "Size"):
        return Way.STILL
    if op in STEPPING or worst is Way.STEP:
        return Way.STEP
    if op == "Where" and not any(way is Way.SMOOTH for way in read[1:]):
        return Way.STEP
    return Way.SMOOTH


def frontier(model: ModelProto, trained: Collection[str]) -> tuple[str, ...]:
    """Return the smooth tensors that are outputs or are read by the tail, in the order of the graph.

    The tail is what is jumped, and the steps that nothing smooth is computed with. A tensor that follows from others of
    the frontier without a parameter is left out: it would say the same twice. Empty where no output depends on trained
    parameters by a slope.
    """
    light = ModelProto()
    light.CopyFrom(model)
    drop_unneeded(light.graph)
    found = ways(light, trained)
    ends = _ends(light, found)
    order = [name for node in light.graph.node for name in node.output if name in ends]
    return tuple(name for name in order if not _follows(light, name, ends - {name}, found))


def _ends(model: ModelProto, found: Mapping[str, Way]) -> set[str]:
    """Return the smooth tensors that are outputs, or that the tail reads."""
    outputs = {value.name for value in model.graph.output}
    smooth = {name for name, way in found.items() if way is Way.SMOOTH}
    in_tail = {name for name, way in found.items() if way is Way.JUMPED}
    in_tail |= {name for name in outputs if found.get(name) is Way.STEP}
    ends = smooth & outputs
    initializers = {tensor.name for tensor in model.graph.initializer}
    for node in reversed(model.graph.node):
        if in_tail.isdisjoint(node.output):
            continue
        for name in reads(node):
            if name in smooth and name not in initializers:
                ends.add(name)
            elif found.get(name) is Way.STEP:
                in_tail.add(name)
    return ends


def _follows(model: ModelProto, name: str, others: Collection[str], found: Mapping[str, Way]) -> bool:
    """Say whether a tensor depends on parameters by way of other tensors alone."""
    producers = {each: node for node in model.graph.node for each in node.output if each}
    open_names, seen = [name], {name}
    while open_names:
        node = producers.get(open_names.pop())
        for source in () if node is None else reads(node):
            if source in seen or source in others or not found.get(source, Way.STILL):
                continue
            if source not in producers:
                return False
            seen.add(source)
            open_names.append(source)
    return True


def parts(model: ModelProto, name: str) -> tuple[str, ...]:
    """Return the tensors that are joined to make one, itself where none are: parts of a Concat have their own units.

    Not where samples are joined (axis 0), and where a part is a constant of the graph.
    """
    producers = {each: node for node in model.graph.node for each in node.output if each}
    return tuple(dict.fromkeys(_joined(name, producers)))


def _joined(name: str, producers: Mapping[str, NodeProto]) -> Iterator[str]:
    node = producers.get(name)
    if (
        node is None
        or key(node) != "Concat"
        or not _axis(node)
        or any(each not in producers for each in node.input)
    ):
        yield name
        return
    for each in node.input:
        yield from _joined(each, producers)


def _axis(node: NodeProto) -> int:
    return int(next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 1))
