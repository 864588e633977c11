"""At which sizes a model is run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from contract.builder import build

from onnx_oto.errors import LimitError, UnsupportedError
from onnx_oto.runtime.comparing import compare
from onnx_oto.runtime.comparing.inputs import Sizes, Slot, open_axes, size_of, slots
from onnx_oto.runtime.comparing.sizes import MOST_ELEMENTS, Explorer, Ran, constants, covering, find_base

IMAGE = (Slot("x", 1, ("N", 3, "H", "W")),)


def trial(runs: Callable[[Sizes], bool], seconds: Callable[[Sizes], float] = lambda sizes: 0.0):
    """Return a trial, and the list of sizes that it was asked for."""
    asked: list[dict[str, int]] = []

    def run(sizes: Sizes) -> Ran:
        asked.append(dict(sizes))
        return Ran(runs(sizes), seconds(sizes))

    return run, asked


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (lambda s: True, {"N": 3, "H": 6, "W": 6}),
        (lambda s: s["N"] == 1, {"N": 1, "H": 6, "W": 6}),
        (lambda s: s["H"] % 32 == 0 and s["W"] % 32 == 0, {"N": 3, "H": 32, "W": 32}),
        (lambda s: s["H"] == s["W"] == 224, {"N": 3, "H": 224, "W": 224}),
        (lambda s: s["H"] == 77, {"N": 3, "H": 77, "W": 77}),
    ],
)
def test_sizes_grow_until_the_model_runs(runs: Callable[[Sizes], bool], expected: dict[str, int]) -> None:
    run, _ = trial(runs)
    assert find_base(IMAGE, open_axes(IMAGE), [77], run) == expected


def test_sound_of_many_samples_is_found() -> None:
    run, _ = trial(lambda s: s["T"] >= 9000)
    assert find_base((Slot("x", 1, ("N", "T")),), {"N": True, "T": False}, [], run) == {"N": 3, "T": 16000}


def test_the_search_ends_before_a_run_would_take_long() -> None:
    """Attention over both open axes of an image: work grows with the fourth power."""
    run, asked = trial(lambda s: False, lambda s: 1e-8 * (s["H"] * s["W"]) ** 2)
    assert find_base(IMAGE, open_axes(IMAGE), [], run) is None
    assert max(1e-8 * (s["H"] * s["W"]) ** 2 for s in asked) < 2
    run, asked = trial(lambda s: False)
    find_base(IMAGE, open_axes(IMAGE), [], run)
    assert max(3 * s["N"] * s["H"] * s["W"] for s in asked) <= MOST_ELEMENTS


def test_arithmetic_on_other_axes_is_no_axis() -> None:
    inputs = (
        Slot("new", 1, ("N", "new")),
        Slot("past", 1, ("N", "past")),
        Slot("mask", 1, ("N", "past + new")),
        Slot("lengths", 7, ("N",)),
    )
    assert open_axes(inputs) == {"N": True, "new": False, "past": False}
    assert inputs[2].shape({"N": 2, "new": 5, "past": 3}) == (2, 8)
    assert size_of("batch-size", {}) is None


def test_an_axis_that_must_be_one_is_found() -> None:
    run, _ = trial(lambda s: s["N"] == 1)
    assert find_base((), {"L": True, "N": False}, [], run) == {"L": 3, "N": 1}


def test_a_sum_that_is_named_without_a_connection_is_found() -> None:
    run, _ = trial(lambda s: s["total"] == s["past"] + s["new"])
    axes = {"N": True, "new": False, "past": False, "total": False}
    assert find_base((), axes, [], run) == {"N": 3, "new": 6, "past": 6, "total": 12}


def explored(
    axes: dict[str, bool],
    base: dict[str, int],
    runs: Callable[[Sizes], bool],
    avoid: frozenset[int] = frozenset(),
) -> list[dict[str, int]]:
    run, asked = trial(runs)
    Explorer(axes, base, 0.0, avoid, run).explore()
    return [sizes for sizes in asked if runs(sizes)]


def test_every_axis_is_one_and_a_prime_and_every_pair_occurs() -> None:
    ran = [{"N": 3, "H": 5, "W": 5}, *explored(open_axes(IMAGE), {"N": 3, "H": 5, "W": 5}, lambda s: True)]
    assert {s["N"] for s in ran} == {1, 3}
    assert {s["H"] for s in ran} == {1, 5, 67}
    assert {s["W"] for s in ran} == {1, 5, 61}
    for one, other in (("N", "H"), ("N", "W"), ("H", "W")):
        pairs = {(s[one], s[other]) for s in ran}
        assert pairs == {(a, b) for a in {s[one] for s in ran} for b in {s[other] for s in ran}}
    assert len(ran) <= 10


def test_sizes_are_unlike_the_constants_of_the_graph() -> None:
    ran = explored({"T": False}, {"T": 5}, lambda s: True, frozenset({67, 61}))
    assert [s["T"] for s in ran] == [59, 1]


def test_axes_that_cannot_move_alone_move_together() -> None:
    axes = {"ids[0]": True, "mask[0]": True, "ids[1]": False, "mask[1]": False}
    base = {"ids[0]": 3, "mask[0]": 3, "ids[1]": 5, "mask[1]": 5}
    ran = explored(axes, base, lambda s: s["ids[0]"] == s["mask[0]"] and s["ids[1]"] == s["mask[1]"])
    assert {(s["ids[0]"], s["ids[1]"]) for s in ran} >= {(1, 5), (3, 67), (3, 1), (1, 67), (1, 1)}


def test_multiples_are_found() -> None:
    ran = explored({"T": False}, {"T": 32}, lambda s: s["T"] % 32 == 0)
    assert [s["T"] for s in ran] == [64]


def test_covering_asks_for_nothing_twice() -> None:
    levels = dict.fromkeys(
        [(("a",), 1), (("a",), 2), (("b",), 1), (("b",), 2), (("c",), 1), (("c",), 2)], 1.0
    )
    rows = list(covering(levels))
    assert len(rows) <= 6
    pairs = {frozenset((x, y)) for row in rows for x in row for y in row if x != y}
    assert len(pairs) == 12


def test_constants_of_a_graph() -> None:
    model = build(
        "g (float[N,4] x) => (float[N,M] y) <int64[2] s = {0, 8}, float[4,8] w> { a = MatMul(x, w) "
        "b = Reshape(a, s) y = Softmax<axis=1>(b) }"
    )
    assert constants(model) == {0, 1, 2, 4, 8}
    assert slots(model) == (Slot("x", 1, ("N", 4)),)


# A cut that is right only at some sizes: what stands for the compact model of a wrong rule.
MERGED = """g (float[N,T,4] x) => (float[N,T,4] y) <int64[3] s = {SHAPE}, int64[3] z = {0, -1, 4}>
{ a = Reshape(x, s) b = Relu(a) sh = Shape(x) y = Reshape(b, sh) }"""


@pytest.mark.parametrize("shape", ["3, -1, 4", "-1, 5, 4"])
def test_a_shape_that_is_right_at_one_size_only_is_seen(shape: str) -> None:
    full, wrong = build(MERGED.replace("SHAPE", "0, -1, 4")), build(MERGED.replace("SHAPE", shape))
    verdict = compare(full, wrong)
    assert not verdict.passed
    assert "does not run at N=" in verdict.trouble


def test_a_mean_that_divides_by_a_fixed_length_is_seen() -> None:
    text = "g (float[N,T,4] x) => (float[N,4] y) <{c}> {{ a = ReduceMean<axes=[1], keepdims=0>(x) y = Mul(a, c) }}"
    full = build(text.format(c="float c = {1.0}"))
    wrong = build(
        "g (float[N,T,4] x) => (float[N,4] y) <float c = {0.2}, int64[1] k = {1}> "
        "{ b = ReduceSum<keepdims=0>(x, k) y = Mul(b, c) }"
    )
    verdict = compare(full, wrong)
    assert not verdict.passed
    assert "output 'y' by" in verdict.trouble
    assert "T=5" not in verdict.trouble


def test_attention_over_open_height_and_width_is_run_small() -> None:
    model = build(
        "g (float[N,3,H,W] x) => (float[N,K,K] y) <int64[3] s = {0, 3, -1}> "
        "{ a = Reshape(x, s) t = Transpose<perm=[0,2,1]>(a) e = MatMul(t, a) y = Softmax<axis=-1>(e) }"
    )
    verdict = compare(model, model)
    assert verdict.passed
    assert max(s["N"] * (s["H"] * s["W"]) ** 2 for s in verdict.sizes) < 10**8


def test_sizes_at_which_a_tensor_would_be_too_large_are_not_run() -> None:
    """Every pixel attends to every other at 224 x 224, whatever the input's size: 10 GB per sample."""
    model = build(
        """g (float[N,4,H,W] x) => (float[N,P,3] y) <float[1,4,224,224] p, float[4,3] w, int64[3] s = {0, 4, -1}> {
        a = Add(x, p)  f = Reshape(a, s)  t = Transpose<perm=[0,2,1]>(f)  e = MatMul(t, f)  z = Softmax(e)
        o = MatMul(z, t)  y = MatMul(o, w) }"""
    )
    with pytest.raises(
        (UnsupportedError, LimitError),
        match=r"a tensor takes 30\.2 GB at N=3, H=224, W=224 \(see --limit-memory\)|takes more than .* GB of memory",
    ):
        compare(model, model)


def test_an_input_larger_than_all_may_be_is_not_made() -> None:
    model = build("g (float[1,1,60000,60000] x) => (float[1,1,60000,60000] y) { y = Relu(x) }")
    with pytest.raises(LimitError, match=r"input 'x' of shape .* takes 14\.4 GB"):
        compare(model, model)


def test_a_fixed_input_of_many_elements_is_run() -> None:
    model = build(
        "g (float[1,3,1400,1400] x) => (float[1,2,1400,1400] y) <float[2,3,1,1] w> { y = Conv(x, w) }"
    )
    assert compare(model, model).passed


def test_sizes_that_the_full_model_refuses_are_skipped_and_counted() -> None:
    model = build(
        "g (float[N,1,T] x) => (float[N,2,L] y) <float[2,1,400] w> { y = Conv<strides=[160]>(x, w) }",
        opset=17,
    )
    verdict = compare(model, model)
    assert verdict.passed
    assert verdict.skipped > 0
    assert all(s["T"] >= 400 for s in verdict.sizes)
    assert len({s["T"] for s in verdict.sizes}) >= 2


def test_a_size_that_leaves_a_tensor_empty_is_not_run() -> None:
    """Resize back from an empty map divides by zero inside of the runtime: the process would be gone."""
    model = build(
        """g (float[N,3,H,W] x) => (float[N,4,P,Q] y) <float[6,3,3,3] w1, float[4,6,1,1] w2>
        { a = Conv<pads=[1,1,1,1]>(x, w1) p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(a) n = Shape<end=2>(p)
          hw = Shape<start=2>(a) s = Concat<axis=0>(n, hw) r = Resize<mode="nearest">(p, , , s) y = Conv(r, w2) }"""
    )
    verdict = compare(model, model)
    assert verdict.passed
    assert verdict.skipped == 2
    assert not any(1 in (sizes["H"], sizes["W"]) for sizes in verdict.sizes)
