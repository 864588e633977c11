"""Rows that leave the graph: times the weight, each is one of the values that the node itself gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnx_oto.model import normalise
from onnx_oto.model.normal.widen import in_float32
from onnx_oto.pipeline.aim import giving
from onnx_oto.refit import Reader, readers, tapped
from onnx_oto.runtime.runner import runner
from onnx_oto.zigs import Analysis, analyse
from tests.contract.builder import build, in_precision

Feed = dict[str, np.ndarray]


def conv(shape: str, weight: str, attributes: str = "", *, channels: int = 6, bias: bool = False) -> str:
    """Return a network whose second convolution reads six channels. shape: of images, behind the batch."""
    rank = shape.count(",") + 1
    ones = ",1" * rank
    more, end = (", float[4] b", ", b") if bias else ("", "")
    return (
        f"g (float[N,2,{shape}] x) => (y) <float[{channels},2{ones}] w0, float[{weight}] w{more}> "
        f"{{ a = Conv(x, w0) r = Relu(a) [read] y = Conv{attributes}(r, w{end}) }}"
    )


CONVOLUTIONS = {
    "1-D": (conv("11", "4,6,3"), (11,)),
    "1-D, pads that differ": (conv("11", "4,6,3", "<pads=[2,1]>"), (11,)),
    "2-D": (conv("7,9", "4,6,3,3", bias=True), (7, 9)),
    "2-D, pads": (conv("7,9", "4,6,3,5", "<pads=[1,0,2,3]>"), (7, 9)),
    "2-D, strides": (conv("7,9", "4,6,3,3", "<strides=[2,3],pads=[1,1,1,1]>"), (7, 9)),
    "2-D, dilations": (conv("9,11", "4,6,3,2", "<dilations=[2,3],pads=[2,0,2,3]>"), (9, 11)),
    "2-D, strides and dilations": (conv("9,11", "4,6,3,2", "<strides=[3,2],dilations=[2,3],pads=[0,1,2,3]>"), (9, 11)),
    "2-D, one tap": (conv("5,4", "4,6,1,1", "<strides=[2,2]>"), (5, 4)),
    "2-D, SAME_UPPER": (conv("7,10", "4,6,4,2", '<auto_pad="SAME_UPPER",strides=[2,3]>'), (7, 10)),
    "2-D, SAME_LOWER": (conv("7,10", "4,6,4,2", '<auto_pad="SAME_LOWER",strides=[2,3]>'), (7, 10)),
    "2-D, steps longer than the window": (conv("9,8", "4,6,2,1", '<auto_pad="SAME_UPPER",strides=[3,2]>'), (9, 8)),
    "2-D, VALID": (conv("7,9", "4,6,3,3", '<auto_pad="VALID",strides=[2,1]>'), (7, 9)),
    "2-D, groups": (conv("7,9", "4,3,3,3", "<group=2,pads=[1,1,1,1]>"), (7, 9)),
    "2-D, open sizes": (conv("H,W", "4,6,3,3", "<pads=[1,1,1,1],strides=[2,1]>"), (8, 5)),
    "2-D, open sizes, SAME": (conv("H,W", "4,6,3,4", '<auto_pad="SAME_LOWER",strides=[2,2]>'), (8, 5)),
    "3-D": (conv("4,5,6", "4,6,2,3,2", "<strides=[1,2,2],pads=[1,0,1,0,1,1]>"), (4, 5, 6)),
}  # fmt: skip
PRODUCTS = {
    "Gemm": ("g (float[N,5] x) => (y) <float[5,6] w0, float[6,4] w> "
             "{ a = MatMul(x, w0) r = Relu(a) [read] y = Gemm(r, w) }", (5,)),
    "Gemm, transB, alpha, beta": (
        "g (float[N,5] x) => (y) <float[5,6] w0, float[4,6] w, float[4] b> "
        "{ a = MatMul(x, w0) r = Relu(a) [read] y = Gemm<transB=1,alpha=0.5,beta=2.0>(r, w, b) }", (5,)),
    "MatMul of a matrix": ("g (float[N,5] x) => (y) <float[5,6] w0, float[6,4] w> "
                           "{ a = MatMul(x, w0) r = Relu(a) [read] y = MatMul(r, w) }", (5,)),
    "MatMul of rank 3": ("g (float[N,T,5] x) => (y) <float[5,6] w0, float[6,4] w> "
                         "{ a = MatMul(x, w0) r = Relu(a) [read] y = MatMul(r, w) }", (7, 5)),
    "MatMul of rank 4": ("g (float[N,2,T,5] x) => (y) <float[5,6] w0, float[6,4] w> "
                         "{ a = MatMul(x, w0) r = Relu(a) [read] y = MatMul(r, w) }", (2, 7, 5)),
}  # fmt: skip


def analysed(model: onnx.ModelProto) -> Analysis:
    return analyse(normalise(model))


def of_node(analysis: Analysis, name: str = "read") -> Reader:
    """Return the reader of this name."""
    (found,) = [each for each in readers(analysis) if each.node.name == name]
    return found


def matches(analysis: Analysis, feed: Feed, *, count: int = 9, tolerance: float = 1e-5) -> np.ndarray:
    """Assert that every row times the weight is a value of the node's output; return the places, [N, rows]."""
    reader = of_node(analysis)
    model = in_float32(analysis.model)
    taps = tapped(model, [reader], [count], seed=3)
    (rows,) = taps.rows(runner(taps.model)(taps.feeds(feed, 1)))
    assert rows.dtype == np.float32
    assert rows.shape[2:] == (reader.groups, reader.features)
    values = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    y = np.einsum("nrgf,gof->nrgo", rows, reader.matrix(values[reader.weight]))
    y = y.reshape(*rows.shape[:2], -1) * float(reader.node.attrs.get("alpha", 1.0))
    if reader.node.input(2):
        y = y + values[reader.node.input(2)] * float(reader.node.attrs.get("beta", 1.0))
    expected = runner(giving(model, [reader.output]))(feed)[0]
    if reader.window is not None:
        expected = np.moveaxis(expected, 1, -1)
    expected = expected.reshape(len(rows), -1, y.shape[-1])
    apart = np.abs(y[:, :, None] - expected[:, None]).max(-1)
    assert apart.min(2).max() <= tolerance * np.abs(expected).max()
    return apart.argmin(2)


def fed(shape: tuple[int, ...], batch: int = 3) -> Feed:
    return {"x": np.random.default_rng(5).standard_normal((batch, *shape)).astype(np.float32)}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_row_of_a_convolution_is_what_one_output_reads(name: str) -> None:
    text, sizes = CONVOLUTIONS[name]
    matches(analysed(build(text)), fed((2, *sizes)))


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_row_of_a_product_is_what_one_output_reads(name: str) -> None:
    text, sizes = PRODUCTS[name]
    matches(analysed(build(text)), fed(sizes))


@pytest.mark.parametrize("opset", [9, 10, 11, 12, 13, 14, 16, 18, 19, 21])
def test_every_opset_from_nine_on(opset: int) -> None:
    for name in ("2-D, open sizes, SAME", "2-D, strides and dilations"):
        text, sizes = CONVOLUTIONS[name]
        matches(analysed(build(text, opset=opset)), fed((2, *sizes)))
    text, sizes = PRODUCTS["MatMul of rank 3"]
    matches(analysed(build(text, opset=opset)), fed(sizes))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.FLOAT16, "2-D, pads"),
        (TensorProto.FLOAT16, "MatMul of rank 3"),
        (TensorProto.BFLOAT16, "MatMul of rank 3"),
        (TensorProto.DOUBLE, "2-D, pads"),
        (TensorProto.DOUBLE, "MatMul of rank 3"),
    ],
)
def test_other_floats(kind: int, name: str) -> None:
    text, sizes = (CONVOLUTIONS | PRODUCTS)[name]
    feed: dict[str, Any] = fed(sizes if name in PRODUCTS else (2, *sizes))
    if kind == TensorProto.DOUBLE:
        feed = {key: value.astype(np.float64) for key, value in feed.items()}
    matches(analysed(in_precision(build(text), kind)), feed)


def test_where_runtimes_fill_in_different_ways_nothing_is_read() -> None:
    """ONNX Runtime 1.19 begins a 1-tap window of step 3 at the second of nine, 1.32 at the first."""
    text = conv("9,9", "4,6,1,1", '<auto_pad="SAME_UPPER",strides=[3,3]>')
    assert "read" not in {each.node.name for each in readers(analysed(build(text)))}


def test_all_places_are_reached_in_time() -> None:
    """Positions move with the phase: of 12 places all are seen within some batches, first and last included."""
    text = conv("14", "4,6,3")
    analysis = analysed(build(text))
    reader = of_node(analysis)
    taps = tapped(analysis.model, [reader], [4], seed=0)
    run = runner(taps.model)
    feed = fed((2, 14), 1)
    every = {tuple(row.ravel()) for n in range(12) for row in taps.rows(run(taps.feeds(feed, n)))[0][0]}
    assert len(every) == 12


def test_the_same_places_for_the_same_seed() -> None:
    text, sizes = CONVOLUTIONS["2-D, pads"]
    analysis = analysed(build(text))
    taken = [matches(analysis, fed((2, *sizes))) for _ in range(2)]
    np.testing.assert_array_equal(*taken)


def test_a_matrix_gives_every_row_once() -> None:
    text, sizes = PRODUCTS["Gemm"]
    analysis = analysed(build(text))
    np.testing.assert_array_equal(matches(analysis, fed(sizes), count=50), np.zeros((3, 1)))


def test_images_of_one_size_are_not_those_of_another() -> None:
    """The same taps serve every size of an open axis."""
    text, _ = CONVOLUTIONS["2-D, open sizes"]
    analysis = analysed(build(text))
    for sizes in ((1, 1), (3, 17), (16, 2)):
        matches(analysis, fed((2, *sizes)))


def test_the_model_is_not_touched() -> None:
    analysis = analysed(build(CONVOLUTIONS["2-D"][0]))
    before = analysis.model.SerializeToString()
    tapped(analysis.model, readers(analysis), [5] * len(readers(analysis)), seed=0)
    assert analysis.model.SerializeToString() == before
