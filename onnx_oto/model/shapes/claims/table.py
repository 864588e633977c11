"""The registries of shape rules, and what a rule may ask.

Two kinds. A *claim* sharpens the first output of a standard operator where onnx's own inference needs fully
known values or loses open sizes: it says only what it is sure of. A *foreign* rule describes the outputs of an
operator that onnx has no shape inference for. Adding either is one function in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from onnx import TensorProto

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.dims import Dim, Shape, grows, is_plain
from onnx_oto.model.shapes.symbols import Symbols
from onnx_oto.model.shapes.values import sizes


@dataclass(frozen=True)
class Claimed:
    """What is known before a node: shapes and dtypes (TensorProto) of tensors, small values, symbols to draw.

    proved: every symbolic size that some axis has; it is not negative, whatever its symbols are.
    """

    shapes: Mapping[str, Shape | None]
    dtypes: Mapping[str, int]
    values: Mapping[str, np.ndarray]
    symbols: Symbols
    proved: set[str] = field(default_factory=set)

    def shape(self, node: Node, position: int) -> Shape | None:
        """Return the shape of an input, None when its rank is unknown or it is omitted."""
        return self.shapes.get(node.input(position))

    def value(self, node: Node, position: int) -> np.ndarray | None:
        """Return what is known of the value of an input (see `values`)."""
        return self.values.get(node.input(position))

    def sizes(self, node: Node, position: int) -> list[Dim] | None:
        """Return the elements of an integer input as sizes, None when nothing is known.

        A symbolic element that may be negative is unknown: written into a shape, -1 means something else.
        """
        found = sizes(self.value(node, position))
        return found and [self._sure(size) for size in found]

    def _sure(self, size: Dim) -> Dim:
        return size if not isinstance(size, str) or size in self.proved or grows(size) else None


Claim: TypeAlias = "Callable[[Node, Claimed], Shape | None]"
ForeignShapes: TypeAlias = "Callable[[Node, Claimed], Sequence[Shape | None]]"


@dataclass(frozen=True)
class Foreign:
    """The outputs of an operator that onnx does not describe, or of which it tells the element type alone.

    `shapes` gives one shape per output from the first on (None: unknown). Their element type is `dtype`, or
    that of input `like`, but for those in `others` (by output); a later output of unknown shape is taken to be of
    unknown type too.
    """

    shapes: ForeignShapes
    like: int
    dtype: int
    others: Mapping[int, int]

    def types(self, node: Node, facts: Claimed) -> list[tuple[int, Shape | None]]:
        """Return (element type or 0, shape) per output that the rule covers."""
        kind = self.dtype or facts.dtypes.get(node.input(self.like), TensorProto.UNDEFINED)
        return [
            (self.others.get(i, kind) if shape is not None or i == 0 else TensorProto.UNDEFINED, shape)
            for i, shape in enumerate(self.shapes(node, facts))
        ]


CLAIMS: dict[str, Claim] = {}
FOREIGN: dict[tuple[str, str], Foreign] = {}


def claims(*ops: str) -> Callable[[Claim], Claim]:
    """Register the claim of operators of the standard domain."""

    def register(function: Claim) -> Claim:
        CLAIMS.update(dict.fromkeys(ops, function))
        return function

    return register


def foreign(
    domain: str,
    *ops: str,
    like: int = 0,
    dtype: int = TensorProto.UNDEFINED,
    others: Mapping[int, int] = MappingProxyType({}),
) -> Callable[[ForeignShapes], ForeignShapes]:
    """Register the rule of operators without onnx shape inference; see `Foreign` for the rest."""

    def register(function: ForeignShapes) -> ForeignShapes:
        FOREIGN.update({(domain, op): Foreign(function, like, dtype, others) for op in ops})
        return function

    return register


def merge(a: Shape | None, b: Shape | None) -> Shape | None:
    """Return what two true statements about one shape say together: ints before symbols before None.

    Of two ints or two symbols the first wins.
    """
    if a is None or b is None or len(a) != len(b):
        return b if a is None else a
    return tuple(_better(x, y) for x, y in zip(a, b, strict=True))


def _better(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) or b is None:
        return a
    return b if isinstance(b, int) or a is None else a


def broadcast(a: Shape | None, b: Shape | None) -> Shape | None:
    """Return the shape that two shapes broadcast to, None sizes where that depends on open sizes."""
    if a is None or b is None:
        return None
    rank = max(len(a), len(b))
    left: list[Dim] = [*([1] * (rank - len(a))), *a]
    right: list[Dim] = [*([1] * (rank - len(b))), *b]
    return tuple(_broadcast(x, y) for x, y in zip(left, right, strict=True))


def _broadcast(a: Dim, b: Dim) -> Dim:
    if a == 1:
        return b
    if b == 1 or a == b:
        return a
    if isinstance(a, int):
        return a
    if isinstance(b, int):
        return b
    plain = [size for size in (a, b) if isinstance(size, str) and is_plain(size)]
    return plain[0] if len(plain) == 1 else None  # a named size that is not 1 wins over one that is not known
