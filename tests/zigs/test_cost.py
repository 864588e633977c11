"""Multiply-accumulates of models with open sizes are counted at sizes that are said."""

from __future__ import annotations

from onnx_oto.model import normalise
from onnx_oto.zigs import analyse
from onnx_oto.zigs.cost import Macs, count_macs
from tests.contract.builder import build

CONV = """g (float[SHAPE] x) => (float[a,5,b,c] y) <float[4,3,3,3] w1, float[5,4,1,1] w2>
{ h = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w1) y = Conv(h, w2) }"""


def counted(text: str) -> Macs:
    return count_macs(analyse(normalise(build(text))))


def test_open_images_are_counted_at_a_stated_size() -> None:
    fixed = counted(CONV.replace("SHAPE", "1,3,224,224"))
    assert fixed.at == {}
    assert fixed.count == 112 * 112 * (4 * 3 * 9 + 5 * 4)
    assert counted(CONV.replace("SHAPE", "N,3,H,W")) == Macs(fixed.count, {"N": 1, "H": 224, "W": 224})


def test_only_the_open_axes_are_stated() -> None:
    assert counted(CONV.replace("SHAPE", "N,3,8,8")) == Macs(4 * 4 * (4 * 3 * 9 + 5 * 4), {"N": 1})


def test_an_axis_without_a_name_is_told_by_its_place() -> None:
    model = normalise(build(CONV.replace("SHAPE", "1,3,8,W")))
    model.graph.input[0].type.tensor_type.shape.dim[3].ClearField("dim_param")
    assert count_macs(analyse(model)).at == {"x[3]": 224}


def test_axes_that_a_file_leaves_open_in_other_ways() -> None:
    model = build(CONV.replace("SHAPE", "1,3,H,W"))
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = -1
    dims[2].dim_param = dims[3].dim_param = "?"
    expected = counted(CONV.replace("SHAPE", "N,3,H,W")).count
    assert count_macs(analyse(normalise(model))) == Macs(expected, {"x[0]": 1, "x[2]": 224, "x[3]": 224})


def test_tokens_are_counted_at_a_length() -> None:
    text = """g (int64[N,L] ids) => (float[N,L,5] y) <float[9,8] e, float[8,5] w>
    { h = Gather(e, ids) y = MatMul(h, w) }"""
    assert counted(text) == Macs(128 * 8 * 5, {"N": 1, "L": 128})


def test_layers_of_one_channel_count_like_others() -> None:
    """Nothing of them is labelled: an axis of one position is never cut."""
    text = """g (float[1,1,8,8] x) => (float[1,1,8,8] y) <float[1,1,3,3] w1, float[1,1,1,1] w2>
    { h = Conv<pads=[1,1,1,1]>(x, w1) y = Conv(h, w2) }"""
    assert counted(text).count == 64 * 9 + 64


def test_products_of_what_comes_in_count() -> None:
    text = "g (float[2,5,7] a, float[2,7,3] b) => (float[2,5,3] y) { y = MatMul(a, b) }"
    assert counted(text).count == 2 * 5 * 7 * 3


def test_sizes_that_the_graph_says_are_counted_at() -> None:
    text = """g (float[N,D] x) => (float[N,5] y) <float[9,8] w1, float[8,5] w2>
    { h = MatMul(x, w1) y = MatMul(h, w2) }"""
    assert counted(text) == Macs(9 * 8 + 8 * 5, {"N": 1, "D": 9})


def test_a_first_axis_that_is_no_batch_grows_until_nothing_is_empty() -> None:
    """Frames of sound stand first: a window of 5 slides over them."""
    text = """g (float[T,8] x) => (float[1,4,P,Q] y) <float[4,1,5,3] w, int64[2] front = {0,1}>
    { u = Unsqueeze(x, front) y = Conv(u, w) }"""
    assert counted(text) == Macs(4 * 6 * 4 * 15, {"T": 8})
