"""Shapes inside of bodies, and behind them."""

from __future__ import annotations

import pytest

from onnx_oto.model import normalise
from onnx_oto.model.shapes.inference import infer


def shapes(parse, text, **weights):
    return infer(normalise(parse(text, **weights))).shapes


def loop(body, *, start="x", more="", sizes="N,3", trips="m", go="c"):
    return (
        f"g (float[{sizes}] x, float[N,3] w, int64 m, bool c) => (float[?,?] y{', float[?,?,?] z' if more else ''})"
        f" <int64 three = {{3}}, bool yes = {{1}}, int64[1] nil = {{0}}>"
        f" {{ y{', z' if more else ''} = Loop ({trips}, {go}, {start}) <body = b (int64 i, bool go, float[A,B] s)"
        f" => (bool on, float[C,D] r{', float[E,F] e' if more else ''}) {{ {body} {more} on = Identity(go) }}> }}"
    )


def test_what_is_carried_keeps_its_shape(parse):
    found = shapes(parse, loop("t = Tanh(s) r = Add(t, w)"))
    assert found["s"] == found["t"] == found["r"] == found["y"] == ("N", 3)


def test_an_axis_that_grows_is_another_size_in_every_trip(parse):
    found = shapes(parse, loop("r = Concat<axis = 0>(s, w)", sizes="4,3"))
    assert found["s"][1] == found["y"][1] == 3
    assert all(isinstance(size, str) for size in (found["s"][0], found["r"][0], found["y"][0]))
    assert len({found["s"][0], found["r"][0], found["y"][0], "N"}) == 4


def test_one_axis_that_grows_takes_along_what_follows_it(parse):
    """The second axis of the state follows the first: what was supposed of it falls, too."""
    found = shapes(parse, loop("t = Transpose<perm = [1,0]>(s) r = Concat<axis = 0>(t, t)", sizes="3,3"))
    assert all(isinstance(size, str) for size in (*found["s"], *found["y"]))


def test_another_rank_in_every_trip_is_unknown(parse):
    found = shapes(parse, loop("r = Unsqueeze(s, nil)"))
    assert found["s"] is found["r"] is None


@pytest.mark.parametrize(
    ("trips", "go", "body", "expected"),
    [
        ("three", "yes", "r = Neg(s)", 3),
        ("m", "yes", "r = Neg(s)", None),
        ("three", "c", "r = Neg(s)", None),
        ("three", "", "r = Neg(s)", None),
    ],
)
def test_trips_are_counted_where_their_number_is_sure(parse, trips, go, body, expected):
    found = shapes(parse, loop(body, more="e = Abs(r)", trips=trips, go=go))
    assert found["z"][1:] == ("N", 3)
    assert found["z"][0] == expected or (expected is None and isinstance(found["z"][0], str))


def test_a_size_that_a_trip_makes_is_no_size_outside(parse):
    text = loop("r = Neg(s)", more="k = NonZero(s) kf = Cast<to = 1>(k) e = Add(kf, kf)")
    found = shapes(parse, text)
    assert found["e"][0] == found["z"][1] == 2
    assert found["e"][1] != found["z"][2]


def test_a_scan_goes_along_its_axis(parse):
    text = (
        "g (float[N,3] s0, float[3,T,N] x) => (float[?,?] y, float[?,?,?] z)"
        " { y, z = Scan (s0, x) <num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [-1],"
        " body = b (float[A,B] s, float[C,D] part)"
        " => (float[E,F] r, float[G,H] e) { t = Transpose<perm = [1,0]>(part) r = Add(s, t) e = Neg(r) }> }"
    )
    found = shapes(parse, text)
    assert found["part"] == (3, "N")
    assert found["y"] == ("N", 3)
    assert found["z"] == ("N", 3, "T")


def test_branches_have_in_common_what_an_if_gives(parse):
    text = (
        "g (float[N,3] x, float[M,3] w, bool c) => (float[?,?] y) { y = If (c) <then_branch = t () => (float[A,B] p)"
        " { p = Neg(x) }, else_branch = e () => (float[C,D] q) { q = Abs(w) }> }"
    )
    found = shapes(parse, text)
    assert found["y"][1] == 3
    assert found["y"][0] not in ("N", "M")


# --- ranks ----------------------------------------------------------------------------------------------------------
SQUEEZED = (
    "g (float[N,6,T] x, bool c) => (float[?,?] y) <int64[1] last = {-1}> { a = Relu(x) k = If (c)"
    " <then_branch = t () => (float[?,?] p) { p = Squeeze(a, last) },"
    " else_branch = e () => (float[?,?,?] q) { q = Identity(a) }> READ }"
)


def test_a_reader_of_one_rank_says_which_branch_is_taken(parse):
    found = infer(normalise(parse(SQUEEZED.replace("READ", "r = Relu(k) y = Gemm(r, w)"), w=(6, 4))))
    assert found.shapes["k"] == ("N", 6)
    assert found.settled == {"k"}


def test_a_reader_of_any_rank_says_nothing(parse):
    found = infer(normalise(parse(SQUEEZED.replace("READ", "y = Neg(k)"))))
    assert found.shapes["k"] is None
    assert not found.settled


def test_a_reader_that_may_not_run_says_nothing(parse):
    read = (
        "y = If (c) <then_branch = t2 () => (float[?,?] p2) { p2 = Gemm(k, w) },"
        " else_branch = e2 () => (float[?,?] q2) { q2 = Gemm(v, w) }>"
    )
    text = SQUEEZED.replace("READ", read).replace("bool c)", "bool c, float[N,6] v)")
    found = infer(normalise(parse(text, w=(6, 4))))
    assert found.shapes["k"] is None


def test_ranks_are_followed_through_branches(parse):
    """As exporters write a cell that takes a batch or a single sample: only the batch has a rank that is read."""
    read = (
        "s = Shape(k) n = Size(s) two = Constant<value_int = 2>() f = Equal(n, two) h = If (f)"
        " <then_branch = t2 () => (float[?,?] p2) { p2 = Identity(k) },"
        " else_branch = e2 () => (float[?,?,?] q2) { nil = Constant<value_ints = [0]>() q2 = Unsqueeze(k, nil) }>"
        " y = Gemm(h, w)"
    )
    found = infer(normalise(parse(SQUEEZED.replace("READ", read), w=(6, 4))))
    assert found.shapes["h"] == found.shapes["k"] == ("N", 6)
    assert found.settled == {"k"}  # with its rank known, the second condition is
