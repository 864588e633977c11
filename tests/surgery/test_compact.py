"""What surgery leaves alone, and what it refuses."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from contract.builder import build
from contract.exactness import KeepSet, assert_equal, check, outputs, parameters
from contract.graphs_vision import GRAPHS, RESIDUAL
from onnx import ModelProto, helper

from onnx_oto.errors import OtoError
from onnx_oto.model import normalise
from onnx_oto.surgery import compact
from onnx_oto.zigs import Analysis, analyse, choose, score, zero_dropped


def half(analysis: Analysis, seed: int = 0) -> np.ndarray:
    """Return lanes to drop: a random half."""
    return choose(analysis, score(analysis, "random", seed), 0.5).drop


def decorated() -> ModelProto:
    """Return a residual network with everything a user may have written into it."""
    model = build(RESIDUAL)
    helper.set_model_props(model, {"author": "someone", "licence": "free"})
    model.doc_string, model.graph.doc_string = "of the model", "of the graph"
    model.producer_name, model.producer_version, model.domain, model.model_version = "maker", "1.2", "a.b", 7
    model.graph.metadata_props.add(key="graph", value="kept")
    model.graph.input[0].doc_string = "an image"
    for index, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"layer/{index}", f"text {index}"
        node.metadata_props.add(key="index", value=str(index))
    return model


def test_the_frame_stays() -> None:
    model = decorated()
    analysis = analyse(normalise(model))
    small = compact(analysis, half(analysis))
    assert {p.key: p.value for p in small.metadata_props} == {"author": "someone", "licence": "free"}
    assert (small.producer_name, small.producer_version) == ("maker", "1.2")
    assert (small.domain, small.model_version) == ("a.b", 7)
    assert (small.doc_string, small.graph.doc_string) == ("of the model", "of the graph")
    assert [p.value for p in small.graph.metadata_props] == ["kept"]
    assert list(small.graph.input) == list(model.graph.input)
    assert list(small.graph.output) == list(model.graph.output)


def test_nodes_that_need_no_edit_stay_letter_for_letter() -> None:
    analysis = analyse(normalise(decorated()))
    small = compact(analysis, half(analysis))
    assert list(small.graph.node) == list(analysis.model.graph.node)


def test_edited_nodes_keep_name_text_and_metadata() -> None:
    model = build(
        """g (float[N,3,6,6] x) => (float[N,2,6,6] y) <float[6,3,1,1] w0, float[6,1,3,3] w1, float[2,6,1,1] w2>
        { a = Conv(x, w0) b = Conv<group=6,pads=[1,1,1,1]>(a, w1) y = Conv(b, w2) }"""
    )
    model.graph.node[1].name, model.graph.node[1].doc_string = "depthwise", "mine"
    model.graph.node[1].metadata_props.add(key="k", value="v")
    analysis = analyse(normalise(model))
    small = compact(analysis, half(analysis))
    (node,) = [n for n in small.graph.node if n.name == "depthwise"]
    assert (node.doc_string, node.metadata_props[0].value) == ("mine", "v")
    assert {a.name: helper.get_attribute_value(a) for a in node.attribute}["group"] == 3


def test_nothing_dropped_is_the_model_itself() -> None:
    analysis = analyse(normalise(decorated()))
    small = compact(analysis, np.zeros(analysis.lanes.count, bool))
    assert list(small.graph.node) == list(analysis.model.graph.node)
    assert list(small.graph.initializer) == list(analysis.model.graph.initializer)


def test_weights_are_slices_of_the_full_ones() -> None:
    analysis = analyse(normalise(build(RESIDUAL)))
    drop = half(analysis)
    small = compact(analysis, drop)
    sliced = {t.name: onnx.numpy_helper.to_array(t) for t in small.graph.initializer}
    lanes = analysis.lanes.of_label
    for param in ("w1", "n1m", "w2"):
        full = analysis.graph.constant(param)
        assert full is not None
        for axis, labels in analysis.trace.parameters[param].items():
            full = full.compress(~drop[lanes[labels]], axis=axis)
        np.testing.assert_array_equal(sliced[param], full)


@pytest.mark.parametrize("graph", GRAPHS[::4], ids=lambda graph: graph.name)
def test_a_compact_model_can_be_compacted_again(graph) -> None:  # type: ignore[no-untyped-def]
    analysis = analyse(normalise(graph.model()))
    once = compact(analysis, half(analysis))
    again = check(once, keep_sets=[KeepSet(5, 0.5)], must_matter=False)
    assert parameters(compact(again, half(again, 1))) <= parameters(once)


def test_names_that_surgery_makes_collide_with_none_of_the_user() -> None:
    text = """g (float[N,3,6,6] x) => (float[N,4,6,6] y)
    <float[8,3,1,1] w0, float[8,4,1,1] w1, float[4,4,1,1] w2, int64[5] s5 = {0,2,4,6,6}, int64[4] s4 = {0,8,6,6}>
    { e = Conv(x, w0) a = Conv<group=2>(e, w1) [back] b = Reshape(a, s5) c = Transpose<perm=[0,2,1,3,4]>(b)
      [end] d = Reshape(c, s4) y = Conv<group=2>(d, w2) }"""
    plain = analyse(normalise(build(text)))
    known = {t.name for t in plain.model.graph.initializer}
    made = {t.name for seed in range(4) for t in compact(plain, half(plain, seed)).graph.initializer} - known
    assert made
    taken = sorted(made)[0]
    model = build(text)
    for node in model.graph.node:
        node.input[:] = [taken if n == "w2" else n for n in node.input]
    for tensor in model.graph.initializer:
        tensor.name = taken if tensor.name == "w2" else tensor.name
    check(model, keep_sets=[KeepSet(seed, 0.5) for seed in range(4)])


def test_a_model_that_cannot_be_built_is_an_error_of_ours() -> None:
    """A repair that writes nonsense is caught by the final check, not handed to the user."""
    analysis = analyse(normalise(build(RESIDUAL)))
    node = analysis.model.graph.node[0].name
    analysis.trace.repairs.append((node, lambda cut: cut.set_attribute(node, "strides", [0])))
    with pytest.raises(OtoError, match="the compact model is not valid, which is a defect of onnx-oto"):
        compact(analysis, half(analysis))


def test_a_model_of_another_domain_alone_gets_a_standard_opset_for_what_is_written() -> None:
    text = """g (float[N,T,5] x) => (float[N,T,3] y) <float[5,8] w1, float[8,3] w2, float[8] s, float[8] p>
        { h = com.microsoft.FusedMatMul(x, w1) z = com.microsoft.SkipLayerNormalization(h, h, s, p)
          y = com.microsoft.FusedMatMul(z, w2) }"""
    model = build(text, domain="com.microsoft")
    del model.opset_import[0]
    analysis = analyse(normalise(model))
    drop = half(analysis)
    assert drop.any()
    small = compact(analysis, drop)
    assert list(small.opset_import)[:1] == list(model.opset_import)
    assert {entry.domain for entry in small.opset_import} == {"", "com.microsoft"}
    feed = {"x": np.ones((2, 3, 5), np.float32)}
    assert_equal(outputs(zero_dropped(analysis, drop), feed), outputs(small, feed), "other domain")
