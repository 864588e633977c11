"""What one walk over the graph collects: layouts, ties, frozen labels, roles, constraints, repairs, MACs.

The rules in `onnx_oto.ops` write into a `Trace`; `onnx_oto.zigs` reads it. How layouts of several tensors are
brought together is in `align.py` and `contract.py`, how one is reshaped in `regroup.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from onnx_oto.lanes.constraints import Balanced, Frozen, Groups, Product, Rectangle, Reordering
from onnx_oto.lanes.layout import (
    Block,
    FloatArray,
    IntArray,
    Layout,
    Size,
    changed,
    free,
    fresh_key,
    thin,
    thin_values,
    without_old_sizes,
)
from onnx_oto.lanes.quantized import Code, is_quantized_weight, is_sliceable
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.repairs.shadow import Shadow
from onnx_oto.model.graph.budget import LANE_BYTES, MAX_AXIS, Budget
from onnx_oto.model.graph.flat import BODIES, ENTRY, owner_of
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.model.shapes.dims import product
from onnx_oto.model.view import Graph


class Role(Enum):
    """What a parameter slice does in its lane."""

    PRODUCER = "producer"
    CONSUMER = "consumer"
    BUFFER = "buffer"


class TooMuch(Exception):
    """Raised where labels would take more memory than analysis may take; the text says what of a node does."""


_FEW = 256
_ZERO = [0.0]
_LABEL, _TIE, _STATE = 64, 64, 8
"""What a label, a pair of tied labels, and a state take until lanes are solved, in bytes."""

Repair = Callable[[Cut], None]
"""What a node needs in the compact graph beside sliced parameters."""


@dataclass
class Trace:
    """The state of one analysis. Rules call its methods in topological order of the nodes.

    node: the name of the node whose rule is running; tied_by: for every tie the node that made it.
    through_norms: whether lanes may be removed from the axis a normalisation runs over (repaired exactly).
    head_dims: whether attention loses positions inside its heads, the same number in each, and keeps all heads.
    rectangles: labels of joint blocks that are computed on, and whether equally long rows suffice (`even`).
    composed: by open size the factors that some axis of that size is made of, the latest if there are several.
    apart: labels that may be removed, but never change places. reorderings: by node, the chains of views it ends.
    budget: what labels may still take. An axis that is too long for it carries none, and stays whole.
    repeats: by the name of a Loop or Scan how often its body runs, at most, where that is known.
    grouped: of weights of grouped convolutions, the labels of axis 1, which are others in every group: [groups, n].
    codes: of weights that are stored as integers, what those mean.
    padded: axes of parameters that the compact model fills up with zeros to what they were.
    """

    graph: Graph
    through_norms: bool = True
    head_dims: bool = False
    node: str = ""
    layouts: dict[str, Layout | None] = field(default_factory=dict)
    count: int = 0
    ties: list[tuple[IntArray, IntArray]] = field(default_factory=list)
    tied_by: list[str] = field(default_factory=list)
    causes: dict[str, str] = field(default_factory=dict)
    frozen: list[Frozen] = field(default_factory=list)
    apart: list[Frozen] = field(default_factory=list)
    reorderings: dict[str, Reordering] = field(default_factory=dict)
    roles: dict[tuple[str, int], Role] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    parameters: dict[str, dict[int, IntArray]] = field(default_factory=dict)
    grouped: dict[str, IntArray] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    padded: set[tuple[str, int]] = field(default_factory=set)
    rectangles: list[Rectangle] = field(default_factory=list)
    balanced: list[Balanced] = field(default_factory=list)
    groups: list[Groups] = field(default_factory=list)
    repairs: list[tuple[str, Repair]] = field(default_factory=list)
    macs: dict[str, list[Product]] = field(default_factory=dict)
    repeats: dict[str, Size] = field(default_factory=dict)
    shadows: dict[str, Shadow] = field(default_factory=dict)
    composed: dict[str, tuple[Size, ...]] = field(default_factory=dict)
    budget: Budget = field(default_factory=lambda: Budget(LANE_BYTES))
    _kept: set[int] = field(default_factory=set)

    # --- labels -----------------------------------------------------------------------------------------------
    def fresh(self, shape: int | tuple[int, ...]) -> IntArray:
        """Return new labels, int64 of `shape`. Raises TooMuch."""
        size = math.prod(shape) if isinstance(shape, tuple) else shape
        self.require(size)
        if not self.budget.take(size * _LABEL):
            raise TooMuch("needs more positions than analysis has room for")
        labels = np.arange(self.count, self.count + size, dtype=np.int64)
        self.count += size
        return labels.reshape(shape) if isinstance(shape, tuple) else labels

    def require(self, length: int) -> None:
        """Raise TooMuch unless an axis of this length may carry labels."""
        if length > MAX_AXIS:
            raise TooMuch(
                f"has an axis of {length} positions, more than the {MAX_AXIS} that can carry channels"
            )

    def tie(self, left: IntArray, right: IntArray) -> None:
        """Put left[i] and right[i] into one lane (broadcasting). Raises TooMuch."""
        if left is right:
            return
        if left.shape != right.shape:
            shape = np.broadcast(left, right).shape
            left, right = _widened(left, shape), _widened(right, shape)
        if not left.size or (left.item(0) == right.item(0) and np.array_equal(left, right)):
            return
        if not self.budget.take(left.size * _TIE):
            raise TooMuch("ties more positions than analysis has room for")
        self.ties.append((left, right) if left.ndim == 1 else (left.reshape(-1), right.reshape(-1)))
        self.tied_by.append(self.node)

    def freeze(self, labels: IntArray | Iterable[Block], reason: str, *, apart: bool = True) -> None:
        """Keep these labels for good; `reason` is shown to the user. apart: they may not change places either."""
        arrays = [labels] if isinstance(labels, np.ndarray) else [b.labels for b in labels]
        self.frozen.extend(Frozen(a.reshape(-1), reason, apart) for a in arrays if a.size)

    def tell_apart(self, labels: IntArray, reason: str) -> None:
        """Let these labels never change places, whether lanes are removed or not."""
        self.apart.append(Frozen(labels.reshape(-1), reason))

    def demand_zero(self, block: Block, node: Node, what: str, *, constants: bool = False) -> None:
        """Freeze the positions of `block` that are not certainly zero when their ZIG is zero.

        constants: other constants are fine too, the caller's repair takes care of them.
        """
        if thin_values((block.state,)) == _ZERO:
            return
        bad = block.state != 0
        if not bad.any():
            return
        known = bad & np.isfinite(block.state)
        if constants:
            bad, known = bad & ~known, np.zeros_like(known)
        self.freeze(
            block.labels[known],
            f"{what} of {describe(node)} would read a non-zero constant from a removed channel",
            apart=False,
        )
        self.freeze(
            block.labels[bad & ~known],
            f"{what} of {describe(node)} reads a value that is not zero with its group",
            apart=False,
        )

    # --- layouts ----------------------------------------------------------------------------------------------
    def layout(self, name: str) -> Layout | None:
        """Return the layout of a tensor, None if its rank is unknown. Initializers get their labels here."""
        layouts = self.layouts
        if name not in layouts:
            layouts[name] = self._initial(name)
        return layouts[name]

    def _initial(self, name: str) -> Layout | None:
        shape = self.graph.shapes.get(name)
        if shape is None:
            return None
        if name not in self.graph.initializers:
            return free(shape)
        if self.graph.dtypes.get(name) not in FLOATS and not is_sliceable(self.graph, name):
            return free(shape, constant=True, uniform=self.uniform(name))
        return self._parameter(name, tuple([int(n) for n in shape if isinstance(n, int)]))

    def _parameter(self, name: str, shape: tuple[int, ...]) -> Layout:
        axes: list[tuple[int, ...]] = []
        sizes: dict[int, Size] = {}
        blocks: list[Block] = []
        for axis, size in enumerate(shape):
            if size == 1:
                axes.append(())
                continue
            key = fresh_key()
            axes.append((key,))
            sizes[key] = size
            if size == 0 or size > MAX_AXIS or self.budget.left < size * (_LABEL + _STATE):
                self.causes.setdefault(name, f"'{name}' has an axis of {size} positions")
                continue
            labels = self.fresh(size)
            self.parameters.setdefault(name, {})[axis] = labels
            blocks.append(Block((key,), labels, thin(0.0, size), ((name, axis),)))
        return Layout(
            tuple(axes), sizes, tuple(blocks), constant=True, uniform=None if sizes else self.uniform(name)
        )

    def uniform(self, name: str) -> float | None:
        """Return the value of a constant with one element, else None."""
        shape = self.graph.shapes.get(name)
        if shape is None or name not in self.graph.initializers or any(size != 1 for size in shape):
            return None
        value = self.graph.constant(name)
        return None if value is None or value.dtype.kind not in "fiub" else float(value.reshape(-1)[0])

    def shape(self, name: str) -> tuple[Size, ...]:
        """Return the inferred shape; the caller has checked that the rank is known."""
        shape = self.graph.shapes.get(name)
        return () if shape is None else shape

    def shaped(self, name: str, *, constant: bool = False) -> Layout | None:
        """Return a layout without labels of the tensor's inferred shape."""
        shape = self.graph.shapes.get(name)
        return None if shape is None else free(shape, constant=constant)

    def put(self, name: str, layout: Layout | None) -> None:
        """Set the layout of a computed tensor. Unknown sizes get the symbols that shape inference gave this tensor."""
        layout = None if layout is None else self._with_room(self._given_way(layout))
        self.layouts[name] = layout
        if layout is None or not layout.blocks:
            self._inherit_cause(name)
        if layout is None:
            return
        sizes = layout.sizes
        for keys, size in zip(layout.axes, self.shape(name), strict=False):
            if len(keys) == 1 and isinstance(size, str):
                (key,) = keys
                if sizes[key] != size and not isinstance(sizes[key], int):
                    sizes = {**sizes, key: size}
        if sizes is not layout.sizes:
            self.layouts[name] = changed(layout, sizes=sizes)
        for keys in layout.axes:
            if len(keys) > 1:
                parts = tuple([layout.sizes[key] for key in keys])
                if isinstance(composed := product(parts), str):
                    self.composed[composed] = parts

    def _with_room(self, layout: Layout) -> Layout:
        """Return `layout` in as little memory as possible; without labels where analysis has no room for them."""
        layout = without_old_sizes(layout)
        if not layout.blocks:
            return layout
        blocks, size, is_same = [], 0, True
        for given in layout.blocks:
            block, labels = _with_thin_state(given), given.labels
            is_same = is_same and block is given
            size += block.state.size if any(block.state.strides) else 0
            root = id(labels if labels.base is None else labels.base)
            if root not in self._kept:
                size += labels.size
                self._kept.add(root)
            blocks.append(block)
        if self.budget.take(size * _STATE):
            return layout if is_same else changed(layout, blocks=tuple(blocks))
        self.freeze(blocks, "analysis has no room for more positions")
        return changed(layout, blocks=(), view=None)

    def _given_way(self, layout: Layout) -> Layout:
        """Return `layout` without labels of repeated positions where others are on the same axis: those come first."""
        for block in layout.blocks:
            if block.repeated:
                break
        else:
            return layout
        shared = [blocks for axis in range(layout.rank) if len(blocks := layout.on_axis(axis)) > 1]
        gone = {block.keys for blocks in shared for block in blocks if block.repeated}
        self.freeze(
            [b for b in layout.blocks if b.keys in gone], "it is merged with an axis of other channels"
        )
        return changed(layout, blocks=tuple(b for b in layout.blocks if b.keys not in gone))

    def _inherit_cause(self, name: str) -> None:
        """Remember why an unlabelled tensor is whole: because one of the tensors it is computed from is."""
        node = self.graph.producer.get(name)
        if node is None or name in self.causes:
            return
        for source in node.inputs:
            cause = self.cause(source)
            if cause:
                self.causes[name] = cause
                return

    def cause(self, name: str) -> str:
        """Return why a tensor without labels is whole, "" if that is not known."""
        if name in self.causes:
            return self.causes[name]
        if is_quantized_weight(self.graph, name):
            return f"'{name}' is a quantized weight"
        return f"it comes from the model's input '{name}'" if name in self.graph.inputs else ""

    # --- roles ------------------------------------------------------------------------------------------------
    def assign(self, block: Block, role: Role, *, weight: bool = False) -> None:
        """Say what the parameter slices of `block` do; a producer stays one. `weight`: surely trainable."""
        for param, axis in block.source:
            if self.roles.get((param, axis)) is not Role.PRODUCER:
                self.roles[param, axis] = role
            if weight:
                self.weights.add(param)

    def use(self, layout: Layout, role: Role, *, weight: bool = False) -> None:
        """Assign `role` to every axis of a parameter."""
        for block in layout.blocks:
            self.assign(block, role, weight=weight)

    def labels_of(self, param: str, axis: int) -> IntArray | None:
        """Return the labels of an axis of a parameter, int64 [n] ([groups, n] where they differ between groups)."""
        if axis == 1 and param in self.grouped:
            return self.grouped[param]
        return self.parameters.get(param, {}).get(axis)

    def pads(self, node: Node, indices: Iterable[int]) -> None:
        """Say that a repair pads the last axis of these inputs: what is stored there stays as long as it was."""
        for index in indices:
            if (name := node.input(index)) in self.graph.initializers:
                self.padded.add((name, len(self.shape(name)) - 1))

    # --- blocks -----------------------------------------------------------------------------------------------
    def spread(
        self, size: Size, value: float, *, repeated: bool = False
    ) -> tuple[tuple[int, ...], dict[int, Size], tuple[Block, ...]]:
        """Return keys, sizes and blocks of an axis that holds `value` everywhere: every position a lane of its own.

        An open size is composed as the axes of that size are which it will meet.
        """
        if size == 1:
            return (), {}, ()
        if isinstance(size, int) and size > MAX_AXIS:
            key = fresh_key()
            return (key,), {key: size}, ()
        sizes = {
            fresh_key(): n for n in (self.composed.get(size, (size,)) if isinstance(size, str) else (size,))
        }
        blocks = (
            Block((key,), self.fresh(n), thin(value, n), repeated=repeated)
            for key, n in sizes.items()
            if isinstance(n, int)
        )
        return tuple(sizes), sizes, tuple(blocks)

    def collapse(self, block: Block, keep: Sequence[int]) -> Block:
        """Return `block` over the factors `keep` only: along the others all positions become one lane."""
        if block.keys == keep:
            return block
        kept = [block.keys.index(k) for k in keep]
        rest = [i for i in range(len(block.keys)) if i not in kept]
        if not rest:
            if kept == sorted(kept):
                return block
            return changed(
                block,
                keys=tuple(keep),
                labels=block.labels.transpose(kept),
                state=block.state.transpose(kept),
            )
        shape = tuple([block.labels.shape[i] for i in kept])
        labels = block.labels.transpose(kept + rest).reshape(*shape, -1)
        self.tie(labels[..., :1], labels[..., 1:])
        if (values := thin_values((block.state,))) is not None:
            return changed(block, keys=tuple(keep), labels=labels[..., 0], state=thin(values[0], shape))
        state = block.state.transpose(kept + rest).reshape(*shape, -1)
        same = (state == state[..., :1]).all(-1)
        return changed(
            block, keys=tuple(keep), labels=labels[..., 0], state=np.where(same, state[..., 0], np.nan)
        )

    def materialise(self, layout: Layout, node: Node, *, told_apart: Iterable[int] | None = None) -> None:
        """Ask that the kept positions of joint blocks form a rectangle: a tensor of this shape is really computed.

        told_apart: the axes whose positions the operator tells apart (all of them by default). Where it does not
        tell a block's last factor apart, and no other one follows on that axis, rows may keep different positions,
        but equally many.
        """
        if not (joint := layout.joint()):
            return
        axes = range(layout.rank) if told_apart is None else told_apart
        apart = {key for axis in axes for key in layout.axes[axis]}
        for block in joint:
            last = block.keys[-1]
            own = next([k for k in keys if k in block.keys] for keys in layout.axes if last in keys)
            even = self.head_dims and last not in apart and own[-1] == last
            self.rectangles.append(Rectangle(block.labels, node.name, even))

    def balance(self, block: Block, node: Node) -> None:
        """Ask that every row of a joint block, its last factor's positions, keeps equally many, at least one."""
        self.balanced.append(Balanced(block.labels.reshape(-1, block.labels.shape[-1]), node.name))

    def release(self, layout: Layout, axes: Iterable[int], reason: str) -> Layout:
        """Return the layout with `axes` free: every position of them stays.

        A joint block that reaches over to other axes collapses to its factors there; what is labelled on `axes`
        only is frozen.
        """
        if not layout.blocks:
            return layout
        inside = {key for axis in axes for key in layout.axes[axis]}
        if layout.owners.keys().isdisjoint(inside):
            return layout
        blocks = []
        for block in layout.blocks:
            outside = [k for k in block.keys if k not in inside]
            if outside:
                blocks.append(self.collapse(block, outside))
            else:
                self.freeze([block], reason)
        return changed(layout, blocks=tuple(blocks), view=None)

    def freeze_node(self, node: Node, reason: str) -> None:
        """Closed world: freeze every axis the node touches; its outputs carry no labels."""
        for name in (*node.inputs, *node.captured):
            layout = self.layout(name) if name else None
            if layout is not None:
                self.materialise(layout, node)
                self.freeze(layout.blocks, reason)
            for axis in self.parameters.get(name, {}):
                # A role, so that its dimensions are shown, with the reason.
                self.roles.setdefault((name, axis), Role.PRODUCER)
        for name in node.outputs:
            if name:
                self.causes[name] = reason
                self.put(name, self.shaped(name))

    def count_macs(
        self,
        node: Node,
        sizes: Iterable[Size],
        counted: Iterable[IntArray] = (),
        per_group: Iterable[IntArray] = (),
        repeated: Iterable[IntArray] = (),
    ) -> None:
        """Count the product of sizes and of positions as further multiply-accumulates of a node (see `Product`).

        Sizes that nobody knows count as 1.
        """
        trips = (self.repeats.get(name) for name, _ in node.within)
        size = product(1 if size is None else size for size in (*sizes, *trips))
        found = Product(size, tuple(counted), tuple(per_group), tuple(repeated))
        self.macs.setdefault(node.name, []).append(found)

    def repair(self, node: Node, action: Repair) -> None:
        """Register what the compact graph needs at `node`; run only when something was cut."""
        self.repairs.append((node.name, action))


def _widened(labels: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Return labels broadcast to a shape."""
    if labels.shape == shape:
        return labels
    result: IntArray = np.empty(shape, np.int64)
    result[...] = labels
    return result


def _with_thin_state(block: Block) -> Block:
    """Return a block with its states read-only and in the memory of one, where many are the same."""
    state = block.state
    if state.size <= _FEW or not any(state.strides):
        return block
    if not ((state == state.flat[0]).all() or np.isnan(state).all()):
        return block
    return changed(block, state=thin(state.item(0), state.shape))


def describe(node: Node) -> str:
    """Return how a node is named to the user: an entry as the node it belongs to."""
    if node.domain == BODIES:
        return f"{node.op.removesuffix(ENTRY)} '{owner_of(node.name)}'"
    return f"{node.op} '{node.name}'"


def unknown(shape: tuple[int, ...]) -> FloatArray:
    """Return the (read-only) state of positions of which nothing is known."""
    return thin(np.nan, shape)
