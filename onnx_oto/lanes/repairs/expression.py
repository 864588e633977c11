"""Small expressions over tensors of the graph, for what a repair computes in the compact one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    """A constant of a data type of its own (a list of sizes)."""

    value: npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Apply:
    """An operator applied to expressions, with `settings` (see `model.graph.forms`), written for its opset.

    The same object in two places is computed once.
    """

    op: str
    arguments: tuple[Expression, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


Expression = Tensor | Number | Array | Apply


def tensors(expression: Expression) -> set[str]:
    """Return the tensors of the graph that an expression is computed from."""
    if isinstance(expression, Tensor):
        return {expression.name}
    return set().union(*map(tensors, expression.arguments)) if isinstance(expression, Apply) else set()


def apply(op: str, *arguments: Expression, **settings: Any) -> Apply:
    """Return an operator of the standard domain applied to expressions.

    settings: axes, pads, starts and the like, whether they are attributes or inputs in the model's opset.
    """
    return Apply(op, arguments, settings)
