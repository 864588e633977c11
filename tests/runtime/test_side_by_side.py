"""A model on parts of a batch: the same numbers, in the same order, whatever the parts are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import UnsupportedError
from onnx_oto.runtime.side_by_side import SideBySide

TEXT = (
    '<ir_version: 8, opset_import: ["": {opset}]> g (float[{n},3] x) => (float[{n},2] y, float[{n},3] z)'
    " {{ y = MatMul(x, w) z = Neg(x) }}"
)


def model(n: int | str = "N", opset: int = 17) -> onnx.ModelProto:
    made = parser.parse_model(TEXT.format(n=n, opset=opset))
    weight = np.random.default_rng(0).standard_normal((3, 2)).astype(np.float32)
    made.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return made


@pytest.mark.parametrize("fixed", [None, 1, 4])
@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_parts_are_joined_in_order(fixed: int | None, parts: int, count: int) -> None:
    x = np.random.default_rng(1).standard_normal((count, 3)).astype(np.float32)
    y, z = SideBySide(model(fixed or "N"), parts, fixed)({"x": x})
    weight = numpy_helper.to_array(model().graph.initializer[0])
    np.testing.assert_allclose(y, x @ weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(z, -x)


def test_a_newer_opset_is_read_as_the_newest_one_that_is_known() -> None:
    made = model(opset=23)
    made.ir_version = 11
    (y, _) = SideBySide(made, 1)({"x": np.ones((2, 3), np.float32)})
    assert y.shape == (2, 2)


def test_what_the_runtime_refuses_is_said() -> None:
    unknown = model()
    unknown.graph.node[0].op_type = "Nonsense"
    with pytest.raises(UnsupportedError, match="Nonsense"):
        SideBySide(unknown, 1)
    with pytest.raises(UnsupportedError, match="the teacher does not run"):
        SideBySide(model(), 1)({"x": np.ones((2, 4), np.float32)})
