"""Weights that are NaN or infinite are counted by name; masks are meant so."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from onnx_oto.model.files.finite import count_not_finite, told_not_finite

TEXT = "g (float[N,4] x) => (float[N,4] y) { a = Add(x, w) y = Add(a, v) }"


def with_values(parse, w, dtype=np.float32):
    model = parse(TEXT, v=(4,))
    model.graph.initializer.append(numpy_helper.from_array(np.array(w, dtype), "w"))
    return model


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([1, 2, 3, 4], 0),
        ([1, np.nan, np.inf, -np.inf], 3),
        ([0, -np.inf, -np.inf, 0], 0),  # a mask
        ([0, np.inf, 0, 0], 1),
        ([0, np.nan, -np.inf, 0], 2),
        ([], 0),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_it_counts(values, count, dtype, parse):
    assert count_not_finite(with_values(parse, values, dtype)) == ({"w": count} if count else {})


def test_bfloat16_is_looked_at(parse):
    model = parse(TEXT, v=(4,))
    model.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[2], raw_data=b"\xc0\x7f\x80\x3f")
    )
    assert count_not_finite(model) == {"w": 1}


@pytest.mark.filterwarnings("error")
def test_a_signalling_nan_is_one(parse):
    model = parse(TEXT, v=(4,))
    model.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=b"\x01\x00\xa0\x7f" * 4)
    )
    assert count_not_finite(model) == {"w": 4}


def test_constants_in_bodies_are_looked_at(parse):
    text = """g (bool c, float[2] x) => (float[2] y) { y = If(c)
        <then_branch = t () => (float[2] a) { k = Constant<value = float[2] {inf, 1}>() a = Add(x, k) },
         else_branch = e () => (float[2] b) { b = Neg(x) }> }"""
    assert count_not_finite(parse(text)) == {"k": 1}


def test_a_few_are_named(parse):
    assert told_not_finite({}) == ()
    (note,) = told_not_finite(dict.fromkeys("abcde", 2))
    assert "2 of 'a', 2 of 'b', 2 of 'c' and of 2 more" in note
