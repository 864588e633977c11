"""Small models whose dimensions are known."""

from __future__ import annotations

import itertools

from contract.builder import build
from onnx import ModelProto

from onnx_oto.model import normalise
from onnx_oto.zigs import Analysis, AnalysisOptions, analyse


def analysis_of(text: str, *keep: str) -> Analysis:
    """Return the analysis of a graph written as text."""
    return analyse(normalise(build(text)), AnalysisOptions(keep))


def chain(*widths: int) -> ModelProto:
    """Return x [N,5] -> MatMul w0 -> Relu -> MatMul w1 ... of these widths -> y [N,3]; nodes m0, r0, m1, ..."""
    sizes = [5, *widths, 3]
    declared = ", ".join(f"float[{a},{b}] w{i}" for i, (a, b) in enumerate(itertools.pairwise(sizes)))
    body, last = "", "x"
    for i in range(len(widths)):
        body += f" [m{i}] a{i} = MatMul({last}, w{i}) [r{i}] h{i} = Relu(a{i})"
        last = f"h{i}"
    body += f" [out] y = MatMul({last}, w{len(widths)})"
    return build(f"g (float[N,5] x) => (float[N,3] y) <{declared}> {{ {body} }}")


def chained(*widths: int) -> Analysis:
    """Return the analysis of `chain`: one prunable dimension per width, named w0, w1, ..."""
    return analyse(normalise(chain(*widths)))


GROUPED = """g (float[N,3,6,6] x) => (float[N,2,6,6] y)
<float[8,3,1,1] w0, float[8,4,3,3] w1, float[2,8,1,1] w2>
{ a = Conv(x, w0) b = Relu(a) c = Conv<group=2,pads=[1,1,1,1]>(b, w1) y = Conv(c, w2) }"""

HALVES = """g (float[N,5] x) => (float[N,3] y) <float[5,8] w0, float[4,3] w1, float[4,3] w2>
{ a = MatMul(x, w0) b, c = Split<axis=1>(a) d = Relu(b) e = MatMul(d, w1) f = MatMul(c, w2) y = Add(e, f) }"""
