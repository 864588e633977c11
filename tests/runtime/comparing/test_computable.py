"""What is folded beforehand must be what a runtime computes too."""

from __future__ import annotations

import pytest
from onnx import ModelProto

from onnx_oto.errors import CrashedError, UnsupportedError
from onnx_oto.model import normal_form
from onnx_oto.model.normal.origins import Origins
from onnx_oto.runtime.comparing.computable import require_computable
from onnx_oto.runtime.limits import SENSIBLE
from tests.contract.builder import build
from tests.runtime.crashing import divides_and_dies

HEAD = """g (float[N,4] x) => (float[N,M] y)
<int64[1] one = {1}, int64[1] none = {0}, int64[2] s = {-1, 40}, float[40,40] w> """


def computed(body: str) -> ModelProto | None:
    """Return what a model computes from constants, after a runtime has tried it."""
    origins = Origins()
    normal_form(build(HEAD + "{" + body + " }"), origins=origins)
    require_computable(origins.computed, SENSIBLE)
    return origins.computed


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(
            "q = Div(one, none)  f = Cast<to=1>(q)  y = Add(x, f)", CrashedError, marks=divides_and_dies
        ),
        pytest.param(
            "q = Mod(one, none)  f = Cast<to=1>(q)  t = Mul(f, f)  y = Add(x, t)",
            CrashedError,
            marks=divides_and_dies,
        ),
        (
            "i = Squeeze(one)  n = Squeeze(none)  q = Range(i, i, n)  f = Cast<to=1>(q)  t = ReduceSum<keepdims=0>(f) "
            "y = Add(x, t)",
            UnsupportedError,
        ),
        (
            "q = GatherElements(one, s)  f = Cast<to=1>(q)  t = ReduceSum<keepdims=0>(f)  y = Add(x, t)",
            UnsupportedError,
        ),
    ],
)
def test_what_a_runtime_refuses_to_compute_is_refused(
    body: str, error: type[Exception] | tuple[type[Exception], ...]
) -> None:
    with pytest.raises(error):
        computed(body)


def test_shape_arithmetic_and_no_weights_are_tried() -> None:
    found = computed(
        "t = Add(s, none)  u = Mul(t, one)  v = Transpose(w)  r = Reshape(x, u)  y = MatMul(r, v)"
    )
    assert found is not None
    assert [node.op_type for node in found.graph.node] == ["Add", "Mul"]
    assert {tensor.name for tensor in found.graph.initializer} == {"s", "none", "one"}


def test_nothing_computed_is_nothing_to_try() -> None:
    assert computed("y = Relu(x)") is None


def test_what_no_runtime_hands_over_is_tried_all_the_same() -> None:
    """PyTorch writes the transposed weight of a bfloat16 layer as a node."""
    weight = "<bfloat16[2,3] w = {1,2,3,4,5,6}>"
    text = f"g (bfloat16[N,3] x) => (bfloat16[N,2] y) {weight} {{ t = Transpose(w) y = MatMul(x, t) }}"
    origins = Origins()
    normal_form(build(text), origins=origins)
    assert origins.computed is not None
    require_computable(origins.computed, SENSIBLE)
