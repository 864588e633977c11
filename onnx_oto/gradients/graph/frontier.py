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

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import IntEnum

import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from onnx_oto.gradients.graph.lowering.engine import reads
from onnx_oto.gradients.graph.lowering.lowerings import REFUSED, key
from onnx_oto.gradients.graph.static_types import Type, types
from onnx_oto.model.graph.order import drop_unneeded
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.model.normal.unrolled import unrolled

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})

_INTEGERS = frozenset({TensorProto.INT32, TensorProto.INT64})

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
    """Return how every tensor of a model depends on these initializers.

    What is written out for training (loops of few trips) is followed trip by trip.
    """
    model = unrolled(model)
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
    own = {name for node in light.graph.node for name in node.output}
    light = unrolled(light)
    found = ways(light, trained)
    ends = _ends(light, found) & own
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


def parts(model: ModelProto, names: Sequence[str]) -> tuple[str, ...]:
    """Return tensors that hold what these hold, each number once and what has other units apart.

    A tail often reads one tensor in several views (boxes of it, scores of it, all of it in another order): where
    several are views of one, or one is nothing but another order of what a Concat joins, that one takes their place.
    What a Concat joins is given part by part. Samples, axis 0, are neither moved nor joined.
    """
    producers = {each: node for node in model.graph.node for each in node.output if each}
    integers = {
        t.name: to_array(t).reshape(-1).tolist() for t in model.graph.initializer if t.data_type in _INTEGERS
    }
    roots = {name: _root(name, producers, integers) for name in names}
    shared = Counter(root for root, _ in roots.values())
    found: dict[str, None] = {}
    for name, (root, is_whole) in roots.items():
        joined = tuple(_joined(root, producers))
        is_replaced = shared[root] > 1 or (is_whole and len(joined) > 1)
        found.update(dict.fromkeys(joined if is_replaced else [name]))
    return tuple(found)


def _root(
    name: str, producers: Mapping[str, NodeProto], integers: Mapping[str, Sequence[int]]
) -> tuple[str, bool]:
    """Return the tensor that another one is a view of, and whether it is all of it."""
    is_whole = True
    while (node := producers.get(name)) is not None and _is_view(node, integers):
        is_whole = is_whole and key(node) in ("Identity", "Transpose")
        name = node.input[0]
    return name, is_whole


def _is_view(node: NodeProto, integers: Mapping[str, Sequence[int]]) -> bool:
    """Say whether a node gives entries of its first input, every sample its own."""
    given = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    op = key(node)
    if op == "Transpose":
        return bool(given.get("perm", [1])[0] == 0)
    if op == "Slice":
        axes = given.get("axes") or (integers.get(node.input[3], ()) if len(node.input) > 3 else ())
        return bool(axes) and all(axis > 0 or axis == -1 for axis in axes)
    if op == "Gather":
        return node.input[1] in integers and given.get("axis", 0) != 0
    return op == "Identity" or (op == "Split" and given.get("axis", 0) != 0)


def _joined(name: str, producers: Mapping[str, NodeProto]) -> Iterator[str]:
    """Yield what a Concat joins, or the tensor itself. A part may not be a constant or an input of the graph."""
    node = producers.get(name)
    axis = 1 if node is None else next((a.i for a in node.attribute if a.name == "axis"), 1)
    if node is None or key(node) != "Concat" or not axis or any(each not in producers for each in node.input):
        yield name
        return
    for each in node.input:
        yield from _joined(each, producers)
