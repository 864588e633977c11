"""Which parameters a pattern freezes, and which have to go with a group although they do not train."""

from __future__ import annotations

import pytest

from onnx_oto.errors import UsageError
from onnx_oto.zigs import trainable
from onnx_oto.zigs.freezing import frozen, held

from .models import analysis_of, chained

BLOCK = """g (float[N,3,6,6] x) => (float[N,2,6,6] y)
<float[4,3,1,1] w0, float[4] b0, float[4] scale, float[4] shift, float[4] mean, float[4] var, float[2,4,1,1] w1>
{ [first] a = Conv(x, w0, b0) [norm] b = BatchNormalization(a, scale, shift, mean, var) c = Relu(b)
  [last] y = Conv(c, w1) }"""


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("w*",), {"w0", "w1"}),
        (("norm",), {"scale", "shift"}),
        (("first", "shift"), {"w0", "b0", "shift"}),
        (("*",), {"w0", "b0", "scale", "shift", "w1"}),
        ((), set()),
    ],
)
def test_patterns_are_of_parameters_and_of_nodes_that_read_them(
    patterns: tuple[str, ...], expected: set[str]
) -> None:
    analysis = analysis_of(BLOCK)
    assert frozen(analysis, patterns, trainable(analysis)) == expected


def test_the_name_in_the_file_is_known_too() -> None:
    analysis = analysis_of(BLOCK)
    origin = {"w0": "encoder.weight"}
    found = frozen(analysis, ("encoder.*",), trainable(analysis), origin=lambda name: origin.get(name, name))
    assert found == {"w0"}


def test_a_node_reads_through_nodes_that_see_no_data() -> None:
    analysis = analysis_of(
        """g (float[N,5] x) => (float[N,3] y) <float[5,4] v, float[5,4] g, float[4,3] w1>
        { [scaled] w0 = Mul(v, g) [layer] a = MatMul(x, w0) b = Relu(a) [last] y = MatMul(b, w1) }"""
    )
    names = set(analysis.graph.initializers)
    reads = frozen(analysis, ("layer",), names)
    assert reads
    assert "w1" not in reads
    assert reads == names - {"w1"}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("w9*", "--freeze 'w9\\*' matches no parameter that trains"),
        ("mean", "--freeze 'mean' matches no parameter that trains"),
        ("frist", "did you mean 'first'"),
    ],
)
def test_what_matches_nothing_is_refused(pattern: str, message: str) -> None:
    analysis = analysis_of(BLOCK)
    with pytest.raises(UsageError, match=message):
        frozen(analysis, ("w0", pattern), trainable(analysis))


def test_what_lies_in_a_group_is_held() -> None:
    """Not what only reads the group (w1 makes the output), nor the running statistics."""
    analysis = analysis_of(BLOCK)
    assert held(analysis, trainable(analysis)) == ()
    assert held(analysis, ("w0", "w1")) == ("b0", "scale", "shift")
    assert held(analysis, ("b0",)) == ("w0", "scale", "shift")
    assert held(chained(4), ("w1",)) == ("w0",)
