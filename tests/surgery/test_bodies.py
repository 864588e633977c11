"""What surgery does inside of bodies."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from contract.builder import build
from contract.exactness import assert_equal, outputs
from contract.graphs_bodies import tensorflow_lstm, weights_in_the_body
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from onnx_oto.model import normalise
from onnx_oto.model.graph.order import graphs, nodes_inside
from onnx_oto.surgery import compact
from onnx_oto.zigs import Analysis, analyse, choose, score, zero_dropped

LOOP = """g (float[N,5] x, int64 m) => (float[N,12,T] y, float[N,4] z) <float[5,12] w1, float[12,4] w2, float[12,3] w3>
    {{ h = MatMul(x, w1) s, e = Loop (m, , h) <body = b (int64 i, bool go, float[A,12] c)
      => (bool on, float[B,12] r, float[C,12] k)
      <float[12,12] u{more}> {{ j = MatMul(c, u) {body} k = Relu(r) on = Identity(go) }}>
    z = MatMul(s, w2) y0 = MatMul(e, w3) y = {last}(y0) }}"""


def halved(model: ModelProto, seed: int = 0) -> tuple[Analysis, np.ndarray]:
    """Return the analysis, and a random half of the lanes to drop."""
    analysis = analyse(normalise(model))
    return analysis, choose(analysis, score(analysis, "random", seed), 0.5).drop


def declared(model: ModelProto) -> dict[str, list[int | str]]:
    """Return the sizes that bodies declare of their inputs and outputs."""
    return {
        value.name: [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for inner in list(graphs(model.graph))[1:]
        for value in (*inner.input, *inner.output)
    }


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_a_loop_gives_what_the_full_one_gives_after_any_number_of_trips(trips: int) -> None:
    """Without a trip, onnxruntime makes what trips give from the sizes that the body declares."""
    model = build(LOOP.format(more="", body="r = Tanh(j)", last="Identity").replace("[N,12,T]", "[T,N,3]"))
    analysis, drop = halved(model)
    small = compact(analysis, drop)
    feed = {"x": np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32), "m": np.array(trips)}
    assert_equal(outputs(zero_dropped(analysis, drop), feed), outputs(small, feed), f"{trips} trips")
    assert drop.sum() == 6
    sizes = declared(small)
    assert sizes["c"][1] == sizes["r"][1] == sizes["k"][1] == 6


def test_sizes_inside_are_repaired() -> None:
    body = (
        "q = Reshape(j, split) a, b = Split<axis = 2>(q) d = Concat<axis = 2>(b, a) v = Reshape(d, whole)"
        " r = Tanh(v)"
    )
    text = LOOP.format(more=", int64[3] split = {0,3,4}, int64[2] whole = {0,12}", body=body, last="Identity")
    model = build(text.replace("[N,12,T]", "[T,N,3]"), opset=17)
    analysis, drop = halved(model)
    assert drop.any()
    small = compact(analysis, drop)
    feed = {"x": np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32), "m": np.array(2)}
    assert_equal(outputs(zero_dropped(analysis, drop), feed), outputs(small, feed), "reshaped inside")
    changed = [node for node in nodes_inside(small.graph.node) if node.op_type == "Reshape"]
    targets = {t.name: onnx.numpy_helper.to_array(t).tolist() for t in small.graph.initializer}
    assert 12 not in [size for node in changed for size in targets[node.input[1]]]


@pytest.mark.parametrize("make", [tensorflow_lstm, weights_in_the_body])
@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (2, 7), (3, 2)])
def test_recurrent_loops_are_exact_at_every_size(make, batch: int, steps: int) -> None:
    analysis, drop = halved(make())
    small = compact(analysis, drop)
    feed = {"x": np.random.default_rng(steps).standard_normal((batch, steps, 5)).astype(np.float32)}
    expected = outputs(zero_dropped(analysis, drop), feed)
    assert_equal(expected, outputs(small, feed), "onnxruntime")
    if make is weights_in_the_body:  # that of onnx joins what the trips of a Loop give along an old axis
        assert_equal(expected, ReferenceEvaluator(small).run(None, feed), "reference evaluator")


def test_nodes_of_bodies_that_need_no_edit_stay_letter_for_letter() -> None:
    model = build(LOOP.format(more="", body="r = Tanh(j)", last="Identity").replace("[N,12,T]", "[T,N,3]"))
    for index, node in enumerate(nodes_inside(model.graph.node)):
        node.doc_string = f"text {index}"
        node.metadata_props.add(key="index", value=str(index))
    model.graph.node[1].attribute[0].g.doc_string = "of the body"
    analysis, drop = halved(model)
    small = compact(analysis, drop)
    body, full = (m.graph.node[1].attribute[0].g for m in (small, analysis.model))
    assert list(body.node) == list(full.node)
    assert (body.name, body.doc_string) == (full.name, "of the body")
    assert small.graph.node[1].doc_string == "text 1"


def test_multiply_accumulates_count_for_every_trip() -> None:
    text = LOOP.format(more="", body="r = Tanh(j)", last="Identity").replace("[N,12,T]", "[T,N,3]")
    fixed = text.replace(", int64 m)", ")").replace(
        "<float[5,12] w1", "<int64 m = {7}, bool yes = {1}, float[5,12] w1"
    )
    once, often = (
        analyse(normalise(build(each))).macs for each in (text, fixed.replace("(m, ,", "(m, yes,"))
    )
    assert often - once == 6 * (12 * 12 + 12 * 3)  # the body, and what reads every trip


BAGS = """g (int64[L] idx, int64[B] offsets) => (float[B,4] y) <float[30,12] table, float[12,4] w2, int64[1] ax = {0},
    bool yes = {1}, int64[1] one = {1}, int64[1] far = {99999}>
    { b = Shape(offsets) m = Squeeze(b, ax) n = Shape(idx) all = Concat<axis = 0>(offsets, n)
      ends = Slice(all, one, far, ax)
      o = Loop (m, yes) <body = lp (int64 i, bool go) => (bool on, float[D] r) {
        on = Identity(go) s = Gather<axis = 0>(offsets, i) e = Gather<axis = 0>(ends, i) s1 = Unsqueeze(s, ax)
        e1 = Unsqueeze(e, ax) part = Slice(idx, s1, e1, ax) rows = Gather<axis = 0>(table, part)
        r = ReduceSum<keepdims = 0>(rows, ax) }>
      a = Relu(o) y = MatMul(a, w2) }"""


def test_bags_of_embeddings_are_cut() -> None:
    """As PyTorch exports EmbeddingBag: a loop that carries nothing, over bags of other lengths."""
    analysis, drop = halved(build(BAGS, opset=13))
    assert drop.sum() == 6
    feed = {"idx": np.array([1, 5, 7, 2, 9, 3]), "offsets": np.array([0, 2, 2, 4])}
    assert_equal(outputs(zero_dropped(analysis, drop), feed), outputs(compact(analysis, drop), feed), "bags")
