"""What is yet to be computed: values that name an operator and what it reads, down to buffers, tables and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

HELD, TABLE, NUMBER = "held", "table", "number"
"""Operators of leaves. What they are is their `content`: a buffer of the device, an array of the host, a float."""

Settings = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, eq=False)
class Value:
    """The result of a standard operator, or a leaf. shape: of an array that is not as long as the parameters."""

    op: str
    inputs: tuple[Value, ...] = ()
    settings: Settings = ()
    dtype: np.dtype[Any] = np.dtype(np.float32)  # noqa: RUF009
    rank: int = 1
    content: Any = None

    @property
    def is_leaf(self) -> bool:
        """Whether there is nothing to compute."""
        return self.op in (HELD, TABLE, NUMBER)


def held(buffer: Any) -> Value:
    """Return what a float32 buffer of a device holds."""
    return Value(HELD, content=buffer)


def number(value: float) -> Value:
    """Return a float32 number, as an array of one element."""
    return Value(NUMBER, content=float(np.float32(value)))


def table(array: npt.NDArray[Any]) -> Value:
    """Return a short array of the host, which goes to the device whenever it is read. It is not changed meanwhile."""
    return Value(TABLE, dtype=array.dtype, rank=array.ndim, content=array)


class Order(NamedTuple):
    """Values in an order in which they can be computed, and the leaves among them by kind.

    shape: what two orders have in common that differ in the content of leaves alone.
    """

    values: tuple[Value, ...]
    held: tuple[Value, ...]
    tables: tuple[Value, ...]
    scalars: tuple[Value, ...]
    shape: tuple[Any, ...]


def order(roots: Sequence[Value]) -> Order:
    """Return all that is needed for some values."""
    places: dict[int, int] = {}
    found: list[Value] = []
    waiting: list[tuple[Value, bool]] = [(root, False) for root in reversed(roots)]
    while waiting:
        value, ready = waiting.pop()
        if id(value) in places:
            continue
        if ready or not value.inputs:
            places[id(value)] = len(found)
            found.append(value)
            continue
        waiting.append((value, True))
        waiting.extend((each, False) for each in reversed(value.inputs))
    kinds: dict[str, list[Value]] = {HELD: [], TABLE: [], NUMBER: []}
    shape: list[Any] = []
    for value in found:
        if value.is_leaf:
            kinds[value.op].append(value)
            shape.append((value.op, value.dtype.char, value.rank))
        else:
            shape.append((value.op, value.settings, *(places[id(each)] for each in value.inputs)))
    shape.append(tuple(places[id(root)] for root in roots))
    return Order(
        tuple(found),
        tuple(kinds[HELD]),
        tuple(kinds[TABLE]),
        tuple(kinds[NUMBER]),
        tuple(shape),
    )
