"""What a runtime says, in a line."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from onnx import parser

from onnx_oto.runtime import runner
from onnx_oto.runtime.runner import MOST_OPTIMISED_LINKS, first_line, in_onnxruntime
from onnx_oto.runtime.sessions import OpenSession

PREFIX = "[ONNXRuntimeError] : 1 : FAIL : "
PLACE = "/onnxruntime_src/onnxruntime/core/graph/model.cc:134 onnxruntime::Model::Model(ModelProto&&, const Path&) "


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (f"{PREFIX}{PLACE}Unsupported opset.\nmore", "Unsupported opset."),
        (f"{PREFIX}Exception during initialization: {PLACE}no kernel", "no kernel"),
        (
            "/src/python/state.cc:990 add(module&)::<lambda(const bytes&, set<char>&)> Node (a) is wrong",
            "Node (a) is wrong",
        ),
        (f"{PREFIX}Node 'a/b' has no input", "Node 'a/b' has no input"),
        ("", ""),
    ],
)
def test_codes_and_places_are_left_out(said, line):
    assert first_line(RuntimeError(said)) == line


@pytest.mark.parametrize("name", ["N" * 10**6, "/" * 10**6, "/a.cc:1 ((" * 10**5, "/.cc:" * 10**5])
def test_long_names_take_no_time(name):
    begin = time.perf_counter()
    assert len(first_line(RuntimeError(f"{PREFIX}Node '{name}'"))) <= 300
    assert time.perf_counter() - begin < 2.0


@pytest.mark.parametrize(("parts", "optimised"), [(3, True), (MOST_OPTIMISED_LINKS + 1, False)])
def test_nodes_of_many_inputs_are_not_optimised(parts, optimised, monkeypatch):
    """Onnxruntime's optimizers would take the square of their number."""
    asked = []

    def opened(content, threads, optimise, disabled, forget):
        asked.append(optimise)
        return OpenSession(0, "none")

    monkeypatch.setattr(runner, "open_onnxruntime", opened)
    monkeypatch.setattr(runner, "shared", Here)
    joined = ", ".join(["x"] * parts)
    in_onnxruntime(
        onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1,1] x) => (float[1,{parts}] y) {{ y = Concat<axis=1>({joined}) }}""")
    )
    assert asked == [optimised]


class Here:
    """A worker that calls in this process."""

    held_bytes = 0
    is_alive = True

    def call(self, allowed, function, content, *arguments):
        return function(content, *arguments)

    def to_forget(self):
        return ()

    def hold(self, number, size):
        pass

    def forget(self, number):
        pass


@pytest.mark.parametrize("between", ["", "h = Identity(h0)"])
def test_a_conv_that_only_branches_read_does_not_end_the_process(between: str) -> None:
    """onnxruntime 1.19 fuses it with its reader, and looks for it among that one's inputs."""
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> g (float[1,3,4,4] x) => (float[1,4,4,4] y)
        <float nil = {{0}}, float[4,3,1,1] w = {{1,2,3,4,5,6,7,8,9,1,2,3}}> {{ {"h0" if between else "h"} = Conv(x, w)
        a = ReduceSum<keepdims = 0>(x) k = Less(a, nil) {between}
        y = If (k) <then_branch = t () => (float[1,4,4,4] p) {{ p = Relu(h) }},
                    else_branch = e () => (float[1,4,4,4] q) {{ q = Neg(h) }}> }}"""
    )
    (y,) = in_onnxruntime(model)({"x": np.ones((1, 3, 4, 4), np.float32)})
    assert y[0, :, 0, 0].tolist() == [-6, -15, -24, -6]
