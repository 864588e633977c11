"""Dealing the factors of axes out to other axes: the arithmetic of a reshape.

A reshape keeps the order of the elements, so the border between two axes of the result lies where as many elements
stand before it (or behind it) as before: that is looked for among the products of sizes, which may be symbolic. What
holds as an equation between polynomials holds at every size.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.lanes.layout import Layout, Size, changed, fresh_key, split
from onnx_oto.model.graph.budget import MAX_AXIS
from onnx_oto.model.shapes.dims import divide, multiply, product


@dataclass(frozen=True)
class Dealt:
    """Factors dealt out as far as borders could be found: one axis of `layout` per run.

    runs: neighbouring axes of the result, by position, that the factors of one axis of `layout` make.
    """

    layout: Layout
    runs: tuple[tuple[int, ...], ...]
    shape: tuple[Size, ...]

    @property
    def mixed(self) -> list[int]:
        """Return the runs whose labels cannot be told in the result: several axes, and no border between them."""
        return [
            i for i, run in enumerate(self.runs) if self.layout.on_axis(i) and not self._can_be_told(i, run)
        ]

    def _can_be_told(self, index: int, run: tuple[int, ...]) -> bool:
        if len(run) == 1:
            return True
        keys = self.layout.axes[index]
        blocks = self.layout.on_axis(index)
        sizes = [self.layout.sizes[k] for k in keys] + [self.shape[i] for i in run]
        total = product(self.layout.sizes[k] for k in keys)
        return (
            len(run) > 0
            and all(
                isinstance(size, int) and size for size in sizes
            )  # nothing to be told where nothing stands
            and total == product(self.shape[i] for i in run)
            and isinstance(total, int)
            and total <= MAX_AXIS
            and len(blocks) == 1
            and set(blocks[0].keys) <= set(keys)
        )


def deal(layout: Layout, shape: Sequence[Size]) -> Dealt:
    """Return the factors of `layout` dealt out to the axes of `shape`; axes of size 1 get none."""
    axes = [i for i, size in enumerate(shape) if size != 1]
    flat = changed(layout, axes=(tuple([k for keys in layout.axes for k in keys]),))
    runs: list[tuple[int, ...]] = []
    borders = [0]
    first = 0
    for j in range(1, len(axes)):
        before, after = product([shape[i] for i in axes[:j]]), product([shape[i] for i in axes[j:]])
        found = locate(flat, 0, before, after, borders[-1])
        if found is None:
            continue
        flat, border = found
        borders.append(border)
        runs.append(tuple(axes[first:j]))
        first = j
    runs.append(tuple(axes[first:]))
    borders.append(len(flat.axes[0]))
    parts = tuple(flat.axes[0][a:b] for a, b in itertools.pairwise(borders))
    return Dealt(changed(flat, axes=parts), tuple(runs), tuple(shape))


def locate(layout: Layout, axis: int, before: Size, after: Size, start: int = 0) -> tuple[Layout, int] | None:
    """Return the border on `axis` with `before` positions in front of it, or `after` behind; None if none is sure.

    The layout may get a factor split; the border is in front of the factor with the returned index, which is at
    least `start`. before * after is the size of the axis, whatever the symbols are.
    """
    keys = layout.axes[axis]
    sizes = [layout.sizes[k] for k in keys]
    if 0 in sizes:
        return None
    first: list[Size] = [1, *sizes]
    fronts = list(itertools.accumulate(first, multiply))
    backs = [product(sizes[i:]) for i in range(len(sizes) + 1)]
    for i in range(start, len(keys) + 1):
        if (before is not None and fronts[i] == before) or (after is not None and backs[i] == after):
            return layout, i
    for i in range(start, len(keys)):
        outer, inner = _parts(sizes[i], divide(before, fronts[i]), divide(after, backs[i + 1]))
        if outer is not None and inner is not None and (layout.block(keys[i]) is None or _ints(outer, inner)):
            return split(layout, keys[i], outer, inner), i + 1
    return None


def _ints(*sizes: Size) -> bool:
    return all(isinstance(size, int) for size in sizes)


def _parts(size: Size, outer: Size, inner: Size) -> tuple[Size, Size]:
    """Return both parts of a factor of which `outer` positions stand before the border, `inner` behind (or None)."""
    if outer is not None and (rest := divide(size, outer)) is not None:
        return outer, rest
    if inner is not None and (rest := divide(size, inner)) is not None:
        return rest, inner
    return (None, None) if isinstance(size, int) else (outer, inner)


def told(dealt: Dealt) -> Layout:
    """Return the layout of the result. No run may be `mixed`."""
    layout = dealt.layout
    axes: list[tuple[int, ...]] = [()] * len(dealt.shape)
    for index, run in enumerate(dealt.runs):
        keys = dealt.layout.axes[index]
        if len(run) == 1 and keys:
            axes[run[0]] = keys
        elif len(run) > 1 and dealt.layout.on_axis(index):
            layout = _relabelled(layout, keys, run, dealt.shape, axes)
        else:
            layout = _freed(layout, run, dealt.shape, axes)
    return changed(layout, axes=tuple(axes))


def _freed(
    layout: Layout, places: Sequence[int], shape: Sequence[Size], axes: list[tuple[int, ...]]
) -> Layout:
    sizes = dict(layout.sizes)
    for i in places:
        key = fresh_key()
        sizes[key] = shape[i]
        axes[i] = (key,)
    return changed(layout, sizes=sizes, view=None)


def _relabelled(
    layout: Layout,
    keys: tuple[int, ...],
    places: Sequence[int],
    shape: Sequence[Size],
    axes: list[tuple[int, ...]],
) -> Layout:
    """Reshape the labels of a run of factors whose borders do not nest with the result's."""
    block = next(b for b in layout.blocks if set(b.keys) & set(keys))
    inside = [k for k in keys if k in block.keys]
    order = [block.keys.index(k) for k in inside]
    full = tuple(int(layout.sizes[k] or 0) for k in keys)
    wide = tuple(n if k in block.keys else 1 for k, n in zip(keys, full, strict=True))
    target = tuple(int(shape[i] or 0) for i in places)
    labels = np.broadcast_to(block.labels.transpose(order).reshape(wide), full).reshape(target)
    state = np.broadcast_to(block.state.transpose(order).reshape(wide), full).reshape(target)
    new = tuple(fresh_key() for _ in places)
    sizes = dict(layout.sizes)
    for key, i in zip(new, places, strict=True):
        sizes[key] = shape[i]
        axes[i] = (key,)
    others = tuple(b for b in layout.blocks if b is not block)
    relabelled = changed(block, keys=new, labels=labels, state=state)
    return changed(layout, sizes=sizes, blocks=(*others, relabelled), view=None)
