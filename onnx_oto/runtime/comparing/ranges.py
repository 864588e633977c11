"""What integers a model may be fed: ids below the rows of the table they index, lengths within their axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from onnx import ModelProto

from onnx_oto.model import Graph, Node
from onnx_oto.model.graph.order import captured
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.model.shapes.dims import Dim
from onnx_oto.runtime.comparing.inputs import NORMAL, Array, Manner, Sizes, Slot, size_of, values
from onnx_oto.runtime.comparing.known import Known

Bounds: TypeAlias = tuple[int, int]

PASSING = frozenset(
    {
        "Cast", "Clip", "DepthToSpace", "Dropout", "Expand", "Flatten", "Identity", "Mod", "Pad", "Reshape", "Slice",
        "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze",
    }
)  # fmt: skip
"""Operators whose first output holds values of their first input, or constants, or what keeps them within bounds."""
JOINING = frozenset({"Concat", "Max", "Min"})
"""Operators whose output holds values of all their inputs."""
COMPARING = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
NARROW = (0, 1)
WIDE = (0, 3)
"""What integers of unknown meaning are drawn from: flags and masks take 0 and 1, some models more."""
MOST_COUNTED = 5
"""What sizes that a model is told may be at most."""
MOST_STEPS = 4096


@dataclass(frozen=True)
class Limit:
    """A demand on an input: lowest <= value - shift, value - shift < or <= size.

    size: an int, a symbol or a product of symbols (None: unknown).
    """

    size: Dim
    shift: int = 0
    lowest: int = 0
    included: bool = False

    def bounds(self, sizes: Sizes) -> Bounds | None:
        """Return the lowest and the highest value at these sizes, None when that is unknown."""
        size = size_of(self.size, sizes)
        if size is None:
            return None
        return self.lowest - self.shift, size - self.shift - (0 if self.included else 1)


@dataclass(frozen=True)
class Ranges:
    """The limits of every integer input, and the names that inference gives to open axes without one."""

    limits: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)

    def bounds(self, name: str, sizes: Sizes) -> Bounds | None:
        """Return what an integer input may hold at these sizes, None when nothing is known."""
        known = {**sizes, **{other: sizes[axis] for other, axis in self.axes.items() if axis in sizes}}
        found = [b for limit in self.limits.get(name, ()) if (b := limit.bounds(known)) is not None]
        if not found:
            return None
        low, high = max(b[0] for b in found), min(b[1] for b in found)
        return (low, high) if low <= high else None


@dataclass(frozen=True)
class Drawn:
    """Random feeds. wide: of unknown integers (uint8 are pixels then); blind: every integer is 0 or 1.

    Floats that the model only reads as integers are whole numbers where their limits are known.
    """

    inputs: tuple[Slot, ...]
    ranges: Ranges
    manner: Manner = NORMAL
    wide: bool = False
    blind: bool = False

    def feed(self, sizes: Sizes, rng: np.random.Generator) -> dict[str, Array]:
        """See `Source.feed`."""
        return {
            slot.name: values(
                slot, slot.shape(sizes), rng, manner=self.manner, bounds=self._bounds(slot, sizes)
            )
            for slot in self.inputs
        }

    def _bounds(self, slot: Slot, sizes: Sizes) -> Bounds | None:
        if slot.dtype.kind not in "iu":
            return None if self.blind else self.ranges.bounds(slot.name, sizes)
        if self.blind:
            return NARROW
        found = self.ranges.bounds(slot.name, sizes)
        if found is not None:
            info = np.iinfo(slot.dtype)
            return max(found[0], int(info.min)), min(found[1], int(info.max))
        if not self.wide:
            return NARROW
        return (0, 255) if slot.dtype == np.uint8 else WIDE


def counting(model: ModelProto, inputs: Sequence[Slot]) -> frozenset[str]:
    """Return the inputs that hold integers, and those of floats that nothing but a Cast to integers reads."""
    integer = {slot.name for slot in inputs if slot.dtype.kind in "iu"}
    others: dict[str, bool] = {}
    for node in model.graph.node:
        whole = node.op_type == "Cast" and all(
            attr.name == "to" and attr.i not in FLOATS for attr in node.attribute
        )
        for name in (*node.input, *captured(node)):
            others[name] = others.get(name, True) and whole
    floats = {slot.name for slot in inputs if slot.dtype.kind == "f"}
    return frozenset(integer | {name for name in floats if others.get(name, False)})


def ranges(known: Known | None, names: Iterable[str]) -> Ranges:
    """Return what is known of the inputs of these names, which hold integers (see `counting`)."""
    if known is None:
        return Ranges()
    return Ranges({name: tuple(_limits(known.view, name)) for name in names}, known.axes)


def _limits(view: Graph, name: str) -> Iterator[Limit]:
    """Yield the demands of all that reads the input, through what hands its values on."""
    queue: list[tuple[str, int]] = [(name, 0)]
    seen = {queue[0]}
    while queue and len(seen) < MOST_STEPS:
        tensor, shift = queue.pop()
        for node, position in view.consumers.get(tensor, ()):
            for limit in _demands(view, node, position):
                yield Limit(limit.size, shift, limit.lowest, limit.included)
            for step in _onward(view, node, position):
                if (found := (step[0], shift + step[1])) not in seen:
                    seen.add(found)
                    queue.append(found)


def _onward(view: Graph, node: Node, position: int) -> Iterator[tuple[str, int]]:
    """Yield the outputs that hold the values of an input, and what is added to them."""
    if node.domain:
        return
    if node.op in JOINING or (
        position == 0 and node.op in (*PASSING, "Gather", "GatherElements", "GatherND")
    ):
        yield from ((name, 0) for name in node.outputs if name)
    elif node.op == "Where" and position > 0:
        yield node.outputs[0], 0
    elif node.op in ("Add", "Sub") and len(node.inputs) == 2:
        constant = view.constant(node.inputs[1 - position])
        if constant is None or constant.dtype.kind not in "iu" or constant.size != 1:
            return
        amount = int(constant.reshape(-1)[0])
        if node.op == "Add":
            yield node.outputs[0], amount
        elif position == 0:
            yield node.outputs[0], -amount


Demand: TypeAlias = "Callable[[Graph, Node], Iterator[Limit]]"


def _demands(view: Graph, node: Node, position: int) -> Iterator[Limit]:
    rule = DEMANDS.get((node.domain, node.op, position))
    if rule is not None:
        yield from rule(view, node)
    elif not node.domain and node.op in COMPARING:
        yield from _compared(view, node, position)


def _axis(view: Graph, tensor: str, axis: int) -> Dim:
    shape = view.shape(tensor)
    return None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]


def _along_axis(view: Graph, node: Node) -> Iterator[Limit]:
    yield Limit(_axis(view, node.inputs[0], int(node.attrs.get("axis", 0))))


def _in_any_axis(view: Graph, node: Node) -> Iterator[Limit]:
    """Indices into several axes, as many as an index has numbers: below the smallest of them."""
    skipped = int(node.attrs.get("batch_dims", 0))
    count = _axis(view, node.inputs[1], -1)
    if isinstance(count, int):
        yield from (Limit(size) for size in (view.shape(node.inputs[0]) or ())[skipped : skipped + count])


def _below_depth(view: Graph, node: Node) -> Iterator[Limit]:
    depth = view.partial(node.inputs[1])
    if depth is not None and depth.size == 1:
        item = depth.reshape(-1)[0]
        yield Limit(item if isinstance(item, str) or item is None else int(item))


def _length(view: Graph, node: Node) -> Iterator[Limit]:
    """A length of a sequence: from 1 to the size of its axis."""
    axis = int(node.attrs.get("time_axis", 1 if node.attrs.get("layout", 0) else 0))
    yield Limit(_axis(view, node.inputs[0], axis), lowest=1, included=True)


def _compared(view: Graph, node: Node, position: int) -> Iterator[Limit]:
    """What is compared with positions lies among them: with other values nothing would change."""
    other = node.inputs[1 - position]
    constant = view.partial(other)
    if constant is not None and constant.size and all(isinstance(v, int) for v in constant.flat):
        low, high = min(constant.flat), max(constant.flat)
        yield Limit(max(high + 1, 1), lowest=min(low, 0), included=True)
    elif constant is None or constant.ndim:
        sizes = [size for size in view.shape(other) or () if size != 1]
        if len(sizes) == 1:
            yield Limit(sizes[0], lowest=0, included=True)


def _count(view: Graph, node: Node) -> Iterator[Limit]:
    """A size or a number of repetitions: with 0 nothing is left, and much would take long."""
    yield Limit(MOST_COUNTED, lowest=1, included=True)


def _rows(table: int) -> Demand:
    def demand(view: Graph, node: Node) -> Iterator[Limit]:
        if node.input(table):
            yield Limit(_axis(view, node.input(table), 0))

    return demand


DEMANDS: dict[tuple[str, str, int], Demand] = {
    ("", "Gather", 1): _along_axis,
    ("", "GatherElements", 1): _along_axis,
    ("", "ScatterElements", 1): _along_axis,
    ("", "Scatter", 1): _along_axis,
    ("", "GatherND", 1): _in_any_axis,
    ("", "ScatterND", 1): _in_any_axis,
    ("", "OneHot", 0): _below_depth,
    ("", "Tile", 1): _count,
    ("", "Expand", 1): _count,
    ("", "ConstantOfShape", 0): _count,
    ("", "Resize", 3): _count,
    ("", "ReverseSequence", 1): _length,
    ("", "RNN", 4): _length,
    ("", "GRU", 4): _length,
    ("", "LSTM", 4): _length,
    ("com.microsoft", "EmbedLayerNormalization", 0): _rows(2),
    ("com.microsoft", "EmbedLayerNormalization", 1): _rows(4),
    ("com.microsoft", "EmbedLayerNormalization", 7): _rows(3),
}
"""What an operator demands of an input: (domain, operator, position of the input) -> limits."""
