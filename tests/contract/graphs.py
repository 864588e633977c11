"""A small graph with what is expected of it, and the parts that several graphs are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onnx import ModelProto

from onnx_oto.zigs import Analysis

from .builder import build
from .exactness import KEEP_SETS, KeepSet, check, dimensions_of

ANY = -1
"""Exact whatever is prunable: no number is promised."""


@dataclass(frozen=True)
class Expect:
    """How many lanes of one axis of a parameter can be removed; 0: none, for a reason that contains `reason`."""

    param: str
    lanes: int
    axis: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Graph:
    """A named model with its expectations."""

    name: str
    model: Callable[[], ModelProto] = field(repr=False)
    expect: tuple[Expect, ...] = ()
    keep_sets: Sequence[KeepSet] = KEEP_SETS
    size: int | None = 8

    head_dims: tuple[Expect, ...] = ()
    """What is expected where attention keeps its heads and loses positions inside them."""

    def run(self, *, head_dims: bool = False) -> Analysis:
        """Check the contract, then the expectations; return the analysis."""
        analysis = check(self.model(), keep_sets=self.keep_sets, size=self.size, head_dims=head_dims)
        for expect in self.head_dims if head_dims else self.expect:
            dims = dimensions_of(analysis, expect.param, expect.axis)
            reasons = [d.reason for d in dims if not d.prunable]
            assert all(expect.reason in reason for reason in reasons), reasons
            if expect.lanes != ANY:
                found = sum(d.size for d in dims if d.prunable)
                assert found == expect.lanes, (
                    f"'{expect.param}': {found} lanes are prunable; frozen: {reasons}"
                )
        return analysis


def graph(
    name: str,
    text: str,
    *expect: Expect,
    opset: int = 17,
    domain: str = "",
    size: int | None = 8,
    keep_sets: Sequence[KeepSet] = KEEP_SETS,
    head_dims: Sequence[Expect] = (),
) -> Graph:
    """Return a graph written as text; see `builder.build`."""
    return Graph(
        name, lambda: build(text, opset=opset, domain=domain), expect, keep_sets, size, tuple(head_dims)
    )


def bn(x: str, y: str, name: str) -> str:
    """Return the text of a batch normalisation of `x`, called `y`, with the parameters of `bn_params`."""
    return f"{y} = BatchNormalization({x}, {name}s, {name}p, {name}m, var{name})"


def bn_params(name: str, channels: int) -> str:
    """Return the declarations of a batch normalisation's parameters."""
    return ", ".join(f"float[{channels}] {n}" for n in (f"{name}s", f"{name}p", f"{name}m", f"var{name}"))
