"""Labels of what bodies are given and give."""

from __future__ import annotations

import numpy as np
from contract.builder import build

from onnx_oto.model import normalise
from onnx_oto.zigs import Analysis, analyse

GROWING = """g (float[2,5] x, int64 m) => (float[2,1] y) <float[5,12] w1>
    { h = MatMul(x, w1) o = Loop (m, , h) <body = b (int64 i, bool go, float[A,B] s) => (bool on, float[C,D] r)
      { t = Tanh(s) r = Concat<axis = 1>(t, t) on = Identity(go) }> y = ReduceMean<axes = [1]>(o) }"""
SHARED = """g (float[2,5] x, int64 m) => (float[2,4] y) <float[5,12] w1, float[12,12] u, float[12,4] w2>
    { h = MatMul(x, w1) o = Loop (m, , h) <body = b (int64 i, bool go, float[2,12] s) => (bool on, float[2,12] r)
      { t = MatMul(s, u) r = Tanh(t) on = Identity(go) }> y = MatMul(o, w2) }"""


def lanes(analysis: Analysis, name: str) -> np.ndarray:
    layout = analysis.trace.layouts[name]
    assert layout is not None
    (block,) = layout.blocks
    return analysis.lanes.of_label[block.labels]


def test_what_is_carried_has_the_same_lanes_all_round_the_loop() -> None:
    analysis = analyse(normalise(build(SHARED)))
    for name in ("s", "t", "r", "o"):
        np.testing.assert_array_equal(lanes(analysis, name), lanes(analysis, "h"))
    assert np.unique(lanes(analysis, "h")).size == 12


def test_an_axis_that_changes_its_size_has_no_labels_inside() -> None:
    analysis = analyse(normalise(build(GROWING)))
    layout = analysis.trace.layouts["s"]
    assert layout is not None
    assert not layout.blocks
    assert layout.length(1) is None
