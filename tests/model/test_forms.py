"""Settings of operators that are attributes in one opset and inputs in another."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_oto.model.graph.forms import form, position

SINCE = [
    ("Unsqueeze", "axes", 1, 13),
    ("Squeeze", "axes", 1, 13),
    ("ReduceSum", "axes", 1, 13),
    ("ReduceMean", "axes", 1, 18),
    ("ReduceMax", "axes", 1, 18),
    ("ReduceL2", "axes", 1, 18),
    ("Pad", "pads", 1, 11),
    ("Pad", "value", 2, 11),
    ("Slice", "starts", 1, 10),
    ("Slice", "ends", 2, 10),
    ("Slice", "axes", 3, 10),
    ("Split", "split", 1, 13),
    ("Clip", "min", 1, 11),
    ("Clip", "max", 2, 11),
    ("TopK", "k", 1, 10),
    ("Dropout", "ratio", 1, 12),
    ("Upsample", "scales", 1, 9),
]


@pytest.mark.parametrize(("op", "setting", "index", "since"), SINCE)
def test_setting_becomes_an_input(op: str, setting: str, index: int, since: int) -> None:
    for opset in range(7, onnx.defs.onnx_opset_version() + 1):
        assert position(op, setting, opset) == (index if opset >= since else None)


def test_constants_keep_the_type_they_have_and_lists_are_int64() -> None:
    written = form("Clip", 13, {"min": np.float16(0)})
    assert written.inputs[1].dtype == np.float16
    assert form("Slice", 13, {"starts": [0], "ends": [3]}).inputs[2].dtype == np.int64
    assert form("Pad", 10, {"pads": np.array([0, 1])}).attributes == {"pads": [0, 1]}


def test_a_setting_that_the_opset_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="Pad has no 'axes' in opset 17"):
        form("Pad", 17, {"pads": [1], "axes": [0]})
