"""How the positions of a tensor's axes are labelled.

An axis is an ordered product of *factors* (C order). Most axes have one factor; an axis made by flattening
[C, H, W] has three; an axis of size 1 has none. A factor is *free* (never cut: batch, space, time) or belongs to
a *block*. A block labels the positions of one factor, or of several factors **jointly**: after a reshape of
[C] into [heads, head-dim] the label of position (h, d) is one entry of a rank-2 array, on two axes. So a reshape,
a transpose and a reshape back are only index arithmetic on labels.

Labels are integers; which of them are the same lane is decided later (`components.py`).
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from onnx_oto.model.graph.budget import MAX_AXIS

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Size = int | str | None
"""A factor's size: a number, the name of a symbolic dimension, or None (unknown)."""

_FEW, _MOST = 16, 4096
_DOUBLE = struct.Struct("=d")
_keys = itertools.count()


def fresh_key() -> int:
    """Return a factor key that no layout has used yet."""
    return next(_keys)


def thin(value: float, shape: int | tuple[int, ...]) -> FloatArray:
    """Return states that are `value` everywhere: float64 of `shape` in the memory of one, read-only."""
    return _thin(_DOUBLE.pack(value), shape)


@lru_cache(maxsize=_MOST)
def _thin(value: bytes, shape: int | tuple[int, ...]) -> FloatArray:
    strides = (0,) if isinstance(shape, int) else (0,) * len(shape)
    return np.ndarray(shape, np.float64, value, 0, strides)


def thin_values(states: Iterable[FloatArray]) -> list[float] | None:
    """Return the value of each of several states that are one value everywhere, None if some are not `thin`."""
    found = []
    for state in states:
        if any(state.strides) or not state.size:
            return None
        found.append(state.item(0))
    return found


@dataclass(eq=False, init=False)
class Block:
    """Labels over one factor, or over several jointly.

    labels: int64, one dimension per key, in the order in which the factors were split off (outermost first).
    state:  float64, same shape: the value the position has, everywhere else on the tensor, once the ZIG of its
            lane is zero. NaN: unknown. inf: not finite (poison).
    source: the parameter axes (initializer name, axis) whose positions these are, if the tensor is a parameter
            or a view of one.
    repeated: whether the positions are one, repeated: they may shrink with what they meet, and give way otherwise.
    """

    keys: Final[tuple[int, ...]]
    labels: Final[IntArray]
    state: Final[FloatArray]
    source: Final[tuple[tuple[str, int], ...]]
    repeated: Final[bool]

    def __init__(
        self,
        keys: tuple[int, ...],
        labels: IntArray,
        state: FloatArray,
        source: tuple[tuple[str, int], ...] = (),
        repeated: bool = False,
    ) -> None:
        # What is frozen for type checkers alone is made in a third of the time: analysis makes ten for every node.
        self.keys = keys
        self.labels = labels
        self.state = state
        self.source = source
        self.repeated = repeated


@dataclass(frozen=True)
class View:
    """The tensor that a chain of reshapes and transposes started from, its axes as keys of this layout."""

    root: str
    axes: tuple[tuple[int, ...], ...]


@dataclass(init=False)
class Layout:
    """The factors of every axis of one tensor and the blocks that label them."""

    axes: Final[tuple[tuple[int, ...], ...]]
    sizes: Final[Mapping[int, Size]]
    blocks: Final[tuple[Block, ...]]
    view: Final[View | None]
    uniform: Final[float | None]
    """The value of a tensor that is one constant everywhere (a scalar constant), for certificates."""
    constant: Final[bool]
    """Whether the tensor is computed from initializers only."""

    def __init__(
        self,
        axes: tuple[tuple[int, ...], ...],
        sizes: Mapping[int, Size],
        blocks: tuple[Block, ...] = (),
        view: View | None = None,
        uniform: float | None = None,
        constant: bool = False,
    ) -> None:
        # See Block.
        self.axes = axes
        self.sizes = sizes
        self.blocks = blocks
        self.view = view
        self.uniform = uniform
        self.constant = constant

    @cached_property
    def owners(self) -> dict[int, int]:
        """The number of the block that has a factor, by its key."""
        return {key: i for i, block in enumerate(self.blocks) for key in block.keys}

    @property
    def rank(self) -> int:
        return len(self.axes)

    def block(self, key: int) -> Block | None:
        """Return the block that labels factor `key`, None if the factor is free."""
        index = self.owners.get(key)
        return None if index is None else self.blocks[index]

    def joint(self) -> tuple[Block, ...]:
        """Return the blocks that label several factors at once."""
        for block in self.blocks:
            if len(block.keys) > 1:
                return tuple([b for b in self.blocks if len(b.keys) > 1])
        return ()

    def on_axis(self, axis: int) -> tuple[Block, ...]:
        """Return the blocks that have a factor on `axis`, each once."""
        keys = self.axes[axis]
        if not keys or not self.blocks:
            return ()
        owners = self.owners
        if len(keys) == 1:
            index = owners.get(keys[0])
            return () if index is None else (self.blocks[index],)
        return tuple([self.blocks[i] for i in dict.fromkeys([owners[k] for k in keys if k in owners])])

    def length(self, axis: int) -> int | None:
        """Return the size of `axis`, None if it is not known."""
        keys = self.axes[axis]
        if len(keys) == 1:
            size = self.sizes[keys[0]]
            return size if isinstance(size, int) else None
        return product([self.sizes[k] for k in keys])


_Value = TypeVar("_Value", Layout, Block)


def changed(value: _Value, **fields: Any) -> _Value:
    """Return a layout or a block with other fields: `dataclasses.replace` in a quarter of the time."""
    result = object.__new__(type(value))
    result.__dict__.update(value.__dict__, **fields)
    if "blocks" in fields:
        result.__dict__.pop("owners", None)
    return result


def product(sizes: Iterable[Size]) -> int | None:
    """Return the product, None if a size is not a number."""
    total = 1
    for size in sizes:
        if not isinstance(size, int):
            return None
        total *= size
    return total


def free(shape: Sequence[Size], *, constant: bool = False, uniform: float | None = None) -> Layout:
    """Return a layout without labels for a tensor of `shape`."""
    axes: list[tuple[int, ...]] = []
    sizes: dict[int, Size] = {}
    for size in shape:
        if size == 1:
            axes.append(())
            continue
        key = next(_keys)
        sizes[key] = size
        axes.append((key,))
    return Layout(tuple(axes), sizes, (), None, uniform, constant)


def split(layout: Layout, key: int, outer: Size, inner: Size) -> Layout:
    """Return `layout` with factor `key` written as two factors, outer * inner. Those of a labelled one are numbers."""
    first, second = fresh_key(), fresh_key()
    sizes = {k: s for k, s in layout.sizes.items() if k != key} | {first: outer, second: inner}

    def swap(keys: tuple[int, ...]) -> tuple[int, ...]:
        if key not in keys:
            return keys
        at = keys.index(key)
        return (*keys[:at], first, second, *keys[at + 1 :])

    def swap_block(block: Block) -> Block:
        if key not in block.keys:
            return block
        at = block.keys.index(key)
        assert isinstance(outer, int)
        assert isinstance(inner, int)
        shape = (*block.labels.shape[:at], outer, inner, *block.labels.shape[at + 1 :])
        return changed(
            block, keys=swap(block.keys), labels=block.labels.reshape(shape), state=block.state.reshape(shape)
        )

    view = layout.view and View(layout.view.root, tuple(map(swap, layout.view.axes)))
    blocks = tuple(map(swap_block, layout.blocks))
    return changed(layout, axes=tuple(map(swap, layout.axes)), sizes=sizes, blocks=blocks, view=view)


def permute(layout: Layout, order: Sequence[int]) -> Layout:
    """Return the layout of the transposed tensor."""
    return changed(layout, axes=tuple(layout.axes[i] for i in order))


def fuse(layout: Layout) -> Layout:
    """Return `layout` with neighbouring factors of one block on one axis written as one factor.

    The factors may stand in another order than in the block (a channel shuffle): labels follow the axis.
    """
    for axis, keys in enumerate(layout.axes):
        for first, second in itertools.pairwise(keys):
            if layout.owners.get(first, -1) == layout.owners.get(second, -2):
                return fuse(_fuse_pair(layout, axis, first, second))
    return layout


def _fuse_pair(layout: Layout, axis: int, first: int, second: int) -> Layout:
    index = layout.owners[first]
    block = layout.blocks[index]
    others = [k for k in block.keys if k not in (first, second)]
    at = sum(block.keys.index(k) < block.keys.index(first) for k in others)
    order = [*others[:at], first, second, *others[at:]]
    axes_order = [block.keys.index(k) for k in order]
    labels, state = block.labels.transpose(axes_order), block.state.transpose(axes_order)
    shape = (*labels.shape[:at], labels.shape[at] * labels.shape[at + 1], *labels.shape[at + 2 :])
    key = fresh_key()
    fused = changed(
        block,
        keys=(*others[:at], key, *others[at:]),
        labels=labels.reshape(shape),
        state=state.reshape(shape),
    )
    keys = layout.axes[axis]
    place = keys.index(first)
    axes = list(layout.axes)
    axes[axis] = (*keys[:place], key, *keys[place + 2 :])
    sizes = dict(layout.sizes) | {key: shape[at]}
    blocks = (*layout.blocks[:index], fused, *layout.blocks[index + 1 :])
    return changed(layout, axes=tuple(axes), sizes=sizes, blocks=blocks, view=None)


def rename(layout: Layout, names: Mapping[int, int], sizes: Mapping[int, Size], rank: int) -> Layout:
    """Return `layout` with other factor keys, as the last axes of `rank`. names: of those that change.

    sizes: of all of them.
    """
    new = names.get
    axes = [tuple([new(key, key) for key in keys]) for keys in layout.axes]
    blocks = [
        Block(tuple([new(key, key) for key in b.keys]), b.labels, b.state, b.source, b.repeated)
        for b in layout.blocks
    ]
    padded = (*[()] * (rank - len(axes)), *axes)
    return Layout(padded, sizes, tuple(blocks), None, layout.uniform, layout.constant)


def with_blocks(layout: Layout, blocks: Iterable[Block]) -> Layout:
    """Return a computed tensor's layout: the same axes, other blocks, no view and no uniform value."""
    return Layout(layout.axes, layout.sizes, tuple(blocks), constant=layout.constant)


def with_axes(layout: Layout, axes: Iterable[tuple[int, ...]]) -> Layout:
    """Return `layout` with its factors on other axes, of which some are of size 1."""
    return Layout(tuple(axes), layout.sizes, layout.blocks, None, layout.uniform, layout.constant)


def without_axes(layout: Layout, drop: Iterable[int], keep_dims: bool = False) -> Layout:
    """Return `layout` without the axes `drop` (of size 1 instead, if `keep_dims`). Their factors must be free."""
    gone = set(drop)
    axes = tuple(
        [() if i in gone else keys for i, keys in enumerate(layout.axes) if keep_dims or i not in gone]
    )
    return Layout(axes, layout.sizes, layout.blocks, constant=layout.constant)


def without_old_sizes(layout: Layout) -> Layout:
    """Return `layout` without sizes of factors that it has no more, if they are many: chains of views leave them."""
    if len(layout.sizes) <= _FEW:
        return layout
    views = layout.view.axes if layout.view is not None else ()
    used = {key for keys in (*layout.axes, *views, *(b.keys for b in layout.blocks)) for key in keys}
    if len(layout.sizes) <= 2 * len(used) + _FEW:
        return layout
    return changed(layout, sizes={key: size for key, size in layout.sizes.items() if key in used})


def explicit(layout: Layout, axis: int) -> tuple[IntArray, FloatArray] | None:
    """Return labels and states of every position of `axis`, int64 [n] and float64 [n].

    None when a factor's size is unknown, when the axis is too long to carry labels, when a block reaches over to other
    axes, or when two blocks are flattened into this axis. Positions of an axis without any label have label -1.
    """
    keys, total = layout.axes[axis], layout.length(axis)
    if total is None or total > MAX_AXIS:
        return None
    blocks = layout.on_axis(axis)
    if not blocks:
        return np.full(total, -1, np.int64), np.full(total, np.nan)
    block = blocks[0]
    if block.keys == keys:
        if len(keys) == 1:
            return block.labels, block.state
        return block.labels.reshape(-1), block.state.reshape(-1)
    if len(blocks) > 1 or not set(block.keys) <= set(keys):
        return None
    shape: tuple[Any, ...] = tuple([layout.sizes[k] for k in keys])
    inside = [k for k in keys if k in block.keys]
    order = [block.keys.index(k) for k in inside]
    wide = tuple(s if k in block.keys else 1 for k, s in zip(keys, shape, strict=True))
    labels = np.broadcast_to(block.labels.transpose(order).reshape(wide), shape)
    state = np.broadcast_to(block.state.transpose(order).reshape(wide), shape)
    return labels.reshape(-1), state.reshape(-1)


def relabel_axis(
    layout: Layout,
    axis: int,
    labels: IntArray,
    state: FloatArray,
    source: tuple[tuple[str, int], ...] = (),
) -> Layout:
    """Return `layout` with `axis` as one factor that carries `labels` (int64 [n]); its old blocks are removed.

    The parameters whose positions these are stay known: those of the old blocks, and `source`.
    """
    old = layout.on_axis(axis)
    key = fresh_key()
    axes = list(layout.axes)
    blocks = list(layout.blocks)
    if old:
        gone = {b.keys for b in old}
        source = tuple(dict.fromkeys([*source, *(s for b in old for s in b.source)]))
        blocks = [b for b in blocks if b.keys not in gone]
    if labels.size == 1:
        axes[axis] = ()
    else:
        axes[axis] = (key,)
        blocks.append(Block((key,), labels, state, source))
    sizes = dict(layout.sizes) | {key: int(labels.size)}
    return Layout(tuple(axes), sizes, tuple(blocks), constant=layout.constant)
