"""One row per operator (several where its forms differ): the smallest model around it, and what is expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from onnx import ModelProto

from onnx_oto.model.graph.order import nodes_inside

from .builder import build
from .exactness import assert_frozen, assert_prunable, check, dimensions_of

PRUNABLE = "prunable"
"""Every lane of the probed axis can be removed."""
EITHER = "exact or frozen"
"""A removed channel leaves a constant: it may be folded (then exact) or refused (then frozen)."""


@dataclass(frozen=True)
class Row:
    """A model and the expectation for axis `axis` of parameter `probe`: PRUNABLE, EITHER or part of a reason.

    size: how many lanes are expected there. rest: with PRUNABLE, why the others of that axis are frozen.
    """

    op: str
    title: str
    expect: str
    model: Callable[[], ModelProto] = field(repr=False)
    probe: str = "w1"
    axis: int = 0
    size: int | None = None
    rest: str = ""

    @property
    def id(self) -> str:
        return f"{self.op}-{self.title}"

    def run(self) -> None:
        """Check the contract, then the expectation."""
        model = self.model()
        domains = {node.op_type for node in nodes_inside(model.graph.node)}
        assert self.op.split("::")[-1] in domains, f"row {self.id} does not contain its operator"
        analysis = check(model)
        if self.expect == PRUNABLE:
            assert_prunable(analysis, self.probe, self.axis, size=self.size, rest=self.rest)
        elif self.expect == EITHER:
            dimensions_of(analysis, self.probe, self.axis)
        else:
            assert_frozen(analysis, self.probe, self.expect, self.axis)


def domain_of(op: str) -> str:
    """Return the domain of `domain::Op`, "" for an operator of ai.onnx."""
    return op.split("::")[0] if "::" in op else ""


def image(
    op: str,
    title: str,
    expect: str,
    body: str,
    params: str = "",
    *,
    opset: int = 17,
    channels: int = 6,
    probe: str = "w1",
    axis: int = 0,
    size: int | None = None,
    rest: str = "",
) -> Row:
    """Return a row x -> Conv w1 -> h [N,6,6,6] -> `body` -> z [N,channels,...] -> Conv w2 -> y.

    `body` reads `h` (or `x`) and makes `z`; `params`: further declarations.
    """
    more = f", {params}" if params else ""
    text = f"""g (float[N,3,6,6] x) => (float[N,5,P,Q] y)
        <float[6,3,3,3] w1, float[6] b1, float[5,{channels},1,1] w2, float[5] b2{more}>
        {{ h = Conv<pads=[1,1,1,1]>(x, w1, b1)
           {body}
           y = Conv(z, w2, b2) }}"""
    return Row(
        op, title, expect, lambda: build(text, opset=opset, domain=domain_of(op)), probe, axis, size, rest
    )


def vector(
    op: str,
    title: str,
    expect: str,
    body: str,
    params: str = "",
    *,
    opset: int = 17,
    channels: int = 8,
    probe: str = "w1",
    axis: int = 0,
    size: int | None = None,
    rest: str = "",
) -> Row:
    """Return a row x [N,5] -> Gemm w1 -> h [N,8] -> `body` -> z [N,channels] -> Gemm w2 -> y [N,4]."""
    more = f", {params}" if params else ""
    c = ", c0" if opset < 11 else ""  # Gemm's C is required before opset 11
    zero = ", float[4] c0" if opset < 11 else ""
    text = f"""g (float[N,5] x) => (float[N,4] y)
        <float[8,5] w1, float[8] b1, float[{channels},4] w2{zero}{more}>
        {{ h = Gemm<transB=1>(x, w1, b1)
           {body}
           y = Gemm(z, w2{c}) }}"""
    return Row(
        op, title, expect, lambda: build(text, opset=opset, domain=domain_of(op)), probe, axis, size, rest
    )


def whole(
    op: str,
    title: str,
    expect: str,
    text: str,
    *,
    opset: int = 17,
    probe: str = "w1",
    axis: int = 0,
    size: int | None = None,
    rest: str = "",
) -> Row:
    """Return a row of a model written out."""
    return Row(
        op, title, expect, lambda: build(text, opset=opset, domain=domain_of(op)), probe, axis, size, rest
    )
