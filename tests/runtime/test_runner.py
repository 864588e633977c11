"""What a runtime says, in a line."""

from __future__ import annotations

import time

import pytest

from onnx_oto.runtime.runner import first_line

PREFIX = "[ONNXRuntimeError] : 1 : FAIL : "
PLACE = "/onnxruntime_src/onnxruntime/core/graph/model.cc:134 onnxruntime::Model::Model(ModelProto&&, const Path&) "


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (f"{PREFIX}{PLACE}Unsupported opset.\nmore", "Unsupported opset."),
        (f"{PREFIX}Exception during initialization: {PLACE}no kernel", "no kernel"),
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
