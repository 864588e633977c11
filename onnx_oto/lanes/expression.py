"""Small expressions over tensors of the graph, for what a repair computes in the compact one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph."""

    name: str


@dataclass(frozen=True)
class Number:
    """A constant, in the data type of tensor `like`."""

    value: float
    like: str


@dataclass(frozen=True, eq=False)
class Array:
    """A constant of a data type of its own (a list of axes)."""

    value: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Apply:
    """An operator applied to expressions. The same object in two places is computed once."""

    op: str
    arguments: tuple[Expression, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


Expression = Tensor | Number | Array | Apply


def apply(op: str, *arguments: Expression, **attributes: Any) -> Apply:
    """Return an operator of the standard domain applied to expressions."""
    return Apply(op, arguments, attributes)


def axes_of(axes: list[int]) -> Array:
    """Return a list of axes as an input, int64 [n]."""
    return Array(np.array(axes, np.int64))
