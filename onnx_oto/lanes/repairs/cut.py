"""What a repair may ask of, and do to, the graph that is being cut. Implemented by `onnx_oto.surgery`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.layout import Block, IntArray, Layout
from onnx_oto.lanes.repairs.expression import Expression


@dataclass(frozen=True)
class Share:
    """A size that is not known before the model runs: kept / total of the full model's, exactly."""

    kept: int
    total: int


NewSize = int | Share | None
"""A size in the compact graph: a number, a share of the full model's, or None (what it was)."""


class Cut(Protocol):
    """A chosen keep set, and the graph under the knife."""

    def kept(self, labels: IntArray) -> npt.NDArray[np.bool_]:
        """Return which labels stay: bool, same shape."""

    def touches(self, *layouts: Layout) -> bool:
        """Return whether any position of these layouts is removed."""

    def size(self, layout: Layout, axis: int) -> int | None:
        """Return the compact size of `axis`, None if it is not known before the model runs."""

    def share(self, layout: Layout, axis: int) -> Share:
        """Return how many positions of `axis` stay of how many, counting those that are labelled."""

    def along(self, block: Block, key: int) -> npt.NDArray[np.bool_]:
        """Return which indices of factor `key` stay: bool [n]."""

    def set_attribute(self, node: str, name: str, value: Any) -> None:
        """Set or replace an attribute of a node."""

    def attribute(self, node: str, name: str, default: Any = None) -> Any:
        """Return the attribute of a node as it is now."""

    def set_input(self, node: str, index: int, value: npt.NDArray[Any]) -> None:
        """Put a constant of its own at an input of a node."""

    def override_input(self, node: str, index: int, values: Sequence[NewSize]) -> None:
        """Replace elements of an integer input (values fewer than ours: the last ones) that sizes are read from.

        None keeps what the graph computes. A share is taken of what it computes, unless that is no size: 1
        (broadcast), 0 (copied) or -1 (inferred).
        """

    def override(self, node: str, setting: str, values: Sequence[int | None]) -> None:
        """Replace elements of a list (axes, pads, ...) that is an attribute or an input, by the model's opset."""

    def override_output(self, node: str, index: int, values: Sequence[NewSize]) -> None:
        """Replace elements of an integer output, a vector or a single number; a share is taken of it."""

    def parameter(self, name: str) -> npt.NDArray[Any]:
        """Return an initializer as it is after slicing."""

    def add_to_input(self, node: str, index: int, value: npt.NDArray[Any]) -> None:
        """Add `value` to an input that is an initializer or absent (then it becomes `value`)."""

    def scale_input(self, node: str, index: int, factor: float) -> None:
        """Multiply an input by a number."""

    def add_shadow(
        self,
        node: str,
        shadow: Expression,
        weight: float,
        **settings: Any,
    ) -> None:
        """Add weight * (the node's operator with `settings`, applied to `shadow`) to the node's first output."""

    def express(self, node: str, expression: Expression) -> None:
        """Compute the node's first output by an expression over tensors of the graph instead."""

    def pad_input(self, node: str, index: int, axis: int, count: int) -> None:
        """Put `count` zeros behind an input along `axis`."""

    def insert_after(
        self, node: str, index: int, op: str, constants: Sequence[npt.NDArray[Any]] = (), **settings: Any
    ) -> None:
        """Let the readers of an output read op(output, *constants), with `settings`, instead.

        settings: axes, starts and the like, whether they are attributes or inputs in the model's opset.
        """

    def reslice(self, node: str, axis: int, positions: IntArray) -> None:
        """Let a Slice take these positions of `axis` (in the compact tensor), whatever its bounds were."""


def sizes_of(cut: Cut, layout: Layout) -> list[NewSize]:
    """Return the compact sizes of all axes: numbers where they are known, shares where positions are removed."""
    sizes: list[NewSize] = []
    for axis in range(layout.rank):
        size, share = cut.size(layout, axis), cut.share(layout, axis)
        sizes.append(size if size is not None else share if share.kept < share.total else None)
    return sizes


def kept_along(cut: Cut, layout: Layout, axis: int) -> npt.NDArray[np.bool_]:
    """Return which positions of `axis` (one factor, a labelled one) stay: bool [n]."""
    (key,) = layout.axes[axis]
    block = layout.block(key)
    assert block is not None
    return cut.along(block, key)


def kept_of(cut: Cut, layout: Layout, axes: Iterable[int]) -> tuple[int, int]:
    """Return how many positions of `axes` stay, and how many there were, of the factors whose block lies in them."""
    inside = {key for axis in axes for key in layout.axes[axis]}
    kept, total = 1, 1
    for key in inside:
        block = layout.block(key)
        if block is not None and set(block.keys) <= inside:
            along = cut.along(block, key)
            kept, total = kept * int(along.sum()), total * along.size
    return kept, total
