"""What rules ask of the choice of lanes: which stay, and of which positions equally many or a rectangle must stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from onnx_oto.lanes.layout import Block, IntArray
from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.dims import Dim


@dataclass(frozen=True, eq=False)
class Balanced:
    """A constraint: every row of `labels` (int64 [rows, positions]) keeps the same number of positions, at least 1."""

    labels: IntArray
    node: str


@dataclass(frozen=True, eq=False)
class Groups:
    """A grouped convolution: group g reads the channels[g] (labels and states [groups, n]) and makes outputs[g].

    Where the channels of each group are one lane, whole groups go, outputs and all. Else every group stays and keeps
    as many channels, and as many outputs, as the others do; then channels that are summed must be zero.
    """

    channels: Block
    outputs: IntArray
    node: Node


@dataclass(frozen=True, eq=False)
class Rectangle:
    """A constraint: the positions kept of `labels` (int64, one dimension per factor) form a rectangle.

    even: or every row, the last factor's positions, keeps equally many: the tensor then still has a regular shape.
    """

    labels: IntArray
    node: str
    even: bool = False


@dataclass(eq=False, init=False)
class Product:
    """Multiply-accumulates of a node: `size` times, for each of `counted`, how many of its positions stay.

    counted: labels of one axis, or of several that are labelled jointly; int64 of any shape. per_group: labels
    [groups, n] of which those of one group that stays count. repeated: as `counted`, of an axis along which the product
    is made anew (heads), so that no width of it depends on how many stay.
    """

    size: Final[Dim]
    counted: Final[tuple[IntArray, ...]]
    per_group: Final[tuple[IntArray, ...]]
    repeated: Final[tuple[IntArray, ...]]

    def __init__(
        self,
        size: Dim,
        counted: tuple[IntArray, ...] = (),
        per_group: tuple[IntArray, ...] = (),
        repeated: tuple[IntArray, ...] = (),
    ) -> None:
        # What is frozen for type checkers alone is made in a third of the time.
        self.size = size
        self.counted = counted
        self.per_group = per_group
        self.repeated = repeated


@dataclass(frozen=True, eq=False)
class Frozen:
    """Labels that must stay, and the reason a person can read.

    apart: whether they must stay where they are, too; otherwise it is only their value that is needed.
    """

    labels: IntArray
    reason: str
    apart: bool = True


@dataclass(frozen=True, eq=False)
class Reordering:
    """What a chain of views comes to: tensor `root` with the positions of one axis in another order.

    order: which position of `axis` stands at each position of the result, int64 [n]. axis -1: all are as they were.
    """

    root: str
    axis: int
    order: IntArray
