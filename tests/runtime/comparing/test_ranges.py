"""What integers are fed."""

from __future__ import annotations

import numpy as np
import pytest
from contract.builder import build
from onnx import ModelProto, numpy_helper

from onnx_oto.runtime.comparing import compare
from onnx_oto.runtime.comparing.inputs import slots
from onnx_oto.runtime.comparing.known import look_at
from onnx_oto.runtime.comparing.ranges import Drawn, Ranges, counting, ranges

SIZES = {"N": 3, "T": 5}


def known(model: ModelProto) -> Ranges:
    inputs = slots(model)
    return ranges(look_at(model, inputs), counting(model, inputs))


def bounds(text: str, name: str = "i", **options: str) -> tuple[int, int] | None:
    model = build(text, **options)
    return known(model).bounds(name, SIZES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (int64[N,T] i) => (float[N,T,4] y) <float[30,4] w> { y = Gather(w, i) }", (0, 29)),
        ("g (int64[N,T] i) => (float[4,N,T] y) <float[4,30] w> { y = Gather<axis=1>(w, i) }", (0, 29)),
        (
            "g (int32[N,T] i) => (float[K,4] y) <float[30,4] w, int64[1] m = {-1}> "
            "{ a = Cast<to=7>(i) b = Reshape(a, m) y = Gather(w, b) }",
            (0, 29),
        ),
        (
            "g (int64[N,T] i) => (float[N,T,4] y) <float[30,4] w, int64 two = {2}> "
            "{ a = Add(i, two) y = Gather(w, a) }",
            (-2, 27),
        ),
        (
            "g (int64[N,T] i) => (float[N,T,4] y) <float[30,4] w, int64 two = {2}> "
            "{ a = Sub(i, two) y = Gather(w, a) }",
            (2, 31),
        ),
        (
            "g (int64[N,T] i) => (float[N,T,4] y) <float[30,4] w, float[20,4] v> "
            "{ a = Gather(w, i) b = Gather(v, i) y = Add(a, b) }",
            (0, 19),
        ),
        (
            "g (int64[N,T] i) => (float[N,T,8] y) <int64 d = {8}, float[2] v = {0.0, 1.0}> { y = OneHot(i, d, v) }",
            (0, 7),
        ),
        (
            "g (float[N,T,4] x, int64[N,2] i) => (float[N,2,4] y) <int64[1] a = {-1}, int64[3] s = {1,1,4}> "
            "{ b = Unsqueeze(i, a) c = Expand(b, s) y = GatherElements<axis=1>(x, c) }",
            (0, 4),
        ),
        (
            "g (float[T,N,2] x, int32[N] i) => (float[T,1,N,4] y) <float[1,16,2] w, float[1,16,4] r> "
            "{ y, h, c = LSTM<hidden_size=4>(x, w, r, , i) }",
            (1, 5),
        ),
        (
            "g (float[N,T] x, int64[1] i) => (float[N,K] y) <int64[1] o = {1}> "
            "{ a = Concat<axis=0>(o, i) y = Tile(x, a) }",
            (1, 5),
        ),
        ("g (float[1,T] x, int64[2] i) => (float[K,T] y) { y = Expand(x, i) }", (1, 5)),
        ("g (float[N,3,T] x, int64[3] i) => (float[N,3,K] y) { y = Resize(x, , , i) }", (1, 5)),
        (
            "g (int64[N,T] i) => (float[N,T,4] y) <float[30,4] w, int64 z = {0}, int64 m = {29}> "
            "{ a = Clip(i, z, m) y = Gather(w, a) }",
            (0, 29),
        ),
        (
            "g (int64[N,T] i) => (float[N,T,4] y) <float[30,4] w, int64 m = {30}> "
            "{ a = Mod(i, m) y = Gather(w, a) }",
            (0, 29),
        ),
        (
            "g (int64[N,T] i) => (float[N,T,4] y) <float[30,4] w, int64 z = {0}, int64 m = {29}> "
            "{ a = Max(z, i) b = Min(a, m) y = Gather(w, b) }",
            (0, 29),
        ),
        (
            "g (float[N,T] i) => (float[N,T,4] y) <float[30,4] w> { a = Cast<to=7>(i) y = Gather(w, a) }",
            (0, 29),
        ),
        ("g (float[N,T] x, int64[N,T] i) => (float[N,T] y) { a = Cast<to=1>(i) y = Mul(x, a) }", None),
    ],
)
def test_bounds(text: str, expected: tuple[int, int] | None) -> None:
    assert bounds(text) == expected


def test_lengths_that_are_compared_with_positions() -> None:
    text = """g (float[N,T] x, int64[N] i) => (float[N,T] y) <int64 z = {0}, int64 o = {1}, int64[1] m = {1}>
    { s = Shape<start=1>(x) q = Squeeze(s) r = Range(z, q, o) u = Unsqueeze(i, m) c = Less(r, u) f = Cast<to=1>(c)
      y = Mul(x, f) }"""
    assert bounds(text) == (0, 5)


def test_axes_without_a_name_bound_indices_too() -> None:
    text = "g (float[N,?] x, int64[3] i) => (float[N,3] y) { y = Gather<axis=1>(x, i) }"
    model = build(text.replace("?", "U"))
    model.graph.input[0].type.tensor_type.shape.dim[1].ClearField("dim_param")
    assert known(model).bounds("i", {"N": 2, "x[1]": 9}) == (0, 8)


def test_unknown_integers_are_small_and_pixels_are_bytes() -> None:
    model = build(
        "g (int64[N,T] i, uint8[N,T] p) => (float[N,T] y) { a = Cast<to=1>(i) b = Cast<to=1>(p) y = Mul(a, b) }"
    )
    inputs, rng = slots(model), np.random.default_rng(0)
    narrow = Drawn(inputs, known(model)).feed({"N": 9, "T": 99}, rng)
    assert set(np.unique(narrow["i"])) == {0, 1}
    wide = Drawn(inputs, known(model), wide=True).feed({"N": 9, "T": 99}, rng)
    assert set(np.unique(wide["i"])) == {0, 1, 2, 3}
    assert wide["p"].max() > 200


def test_floats_that_are_only_read_as_integers_are_whole_numbers() -> None:
    text = """g (float[N] i) => (float[N,3] y) <float[50,4] e, float[4,3] w>
    { c = Cast<to=7>(i) a = Gather(e, c) y = MatMul(a, w) }"""
    full = build(text)
    table = next(numpy_helper.to_array(t) for t in full.graph.initializer if t.name == "e").copy()
    table[10:40] += 1
    other = ModelProto()
    other.CopyFrom(full)
    for tensor in other.graph.initializer:
        if tensor.name == "e":
            tensor.CopyFrom(numpy_helper.from_array(table, "e"))
    assert compare(full, full).passed
    assert not compare(full, other).passed


EMBEDDING = (
    "g (int64[N,T] i) => (float[N,T,3] y) <float[50,4] e, float[4,3] w> { a = Gather(e, i) y = MatMul(a, w) }"
)


def changed_row(model: ModelProto, row: int) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    value = numpy_helper.to_array(result.graph.initializer[0]).copy()
    value[row] += 1
    result.graph.initializer[0].CopyFrom(numpy_helper.from_array(value, "e"))
    return result


@pytest.mark.parametrize("row", [0, 2, 17, 49])
def test_a_difference_in_any_row_of_a_table_is_seen(row: int) -> None:
    full = build(EMBEDDING)
    assert compare(full, full).passed
    assert not compare(full, changed_row(full, row)).passed


def test_integers_and_flags_are_drawn_anew() -> None:
    model = build(
        "g (int64[2,9] i, bool[2,9] b) => (float[2,9] y) { f = Cast<to=1>(i) g = Cast<to=1>(b) y = Add(f, g) }"
    )
    inputs, rng = slots(model), np.random.default_rng(0)
    source = Drawn(inputs, known(model))
    one, other = source.feed({}, rng), source.feed({}, rng)
    assert not np.array_equal(one["i"], other["i"])
    assert not np.array_equal(one["b"], other["b"])
