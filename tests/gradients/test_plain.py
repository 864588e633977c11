"""Gradients as plain ONNX: what the graphs consist of, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnx_oto.gradients import BACKENDS, TrainingSpec, prepare
from onnx_oto.gradients.backends import functions, ort_blocked, ort_norms, stacked_plan
from onnx_oto.gradients.backends.plain import Plain
from onnx_oto.gradients.backends.plain.kernels import is_kernel
from onnx_oto.gradients.backends.plain.reverse import differentiate
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.machine import has_compiler
from onnx_oto.model.graph.node import opset_of
from onnx_oto.runtime import joining

from .conftest import Build, gradient_of, model_from, normal
from .functions import calls_of

NET = """(float[N, 3, 8, 8] x) => (float[N, 5] y) {
    a = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w1) b = BatchNormalization(a, s, t, m, v) c = Relu(b)
    d = MaxPool<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(c) e = Conv<group=4, pads=[1, 1, 1, 1]>(d, w2)
    f = Add(e, c) g = GlobalAveragePool(f) h = Flatten(g) y = Gemm(h, w3, b3)
}"""
WEIGHTS = {
    "w1": normal(4, 3, 3, 3),
    "s": normal(4),
    "t": normal(4, seed=1),
    "m": normal(4, seed=2),
    "v": np.ones(4, np.float32),
    "w2": normal(4, 1, 3, 3, seed=3),
    "w3": normal(4, 5, seed=4),
    "b3": normal(5, seed=5),
}
TRAINED = ("w1", "s", "t", "w2", "w3", "b3")


@pytest.fixture
def backend() -> Plain:
    return Plain()


def gradient_graph(trainable: tuple[str, ...], opset: int = 17, text: str = NET) -> onnx.ModelProto:
    """Return the graph of the gradients, as any provider gets it."""
    weights = {name: value for name, value in WEIGHTS.items() if name in text}
    model = model_from(text, weights, opset=opset)
    preparation = prepare(
        model, TrainingSpec(trainable, "cross-entropy", batch=4, shards=1), Plain(on_cpu=False)
    )
    ((_, content),) = preparation._differentiated()
    return onnx.load_from_string(content)


@pytest.mark.parametrize("opset", [15, 17, 18, 21])
def test_graphs_are_of_the_standard(opset: int) -> None:
    """Whoever reads the model's opset has every operator in it, and scatters add up since 16."""
    graph = gradient_graph(TRAINED, opset)
    assert {node.domain for node in graph.graph.node} == {""}
    assert [(each.domain, each.version) for each in graph.opset_import if each.domain == ""] == [
        ("", max(opset, 16))
    ]
    onnx.checker.check_model(graph, full_check=True)
    outputs = [value.name for value in graph.graph.output]
    assert outputs[0] == "onnx_oto.loss"
    assert {f"{name}_grad" for name in TRAINED} <= set(outputs)


def test_only_what_is_wanted_is_computed() -> None:
    """Of the last layer's bias alone: no node goes back beyond it, and every node is read."""
    whole, last = gradient_graph(TRAINED).graph, gradient_graph(("b3",)).graph
    backwards = [node for node in last.node if node.name.startswith("onnx_oto.plain.back")]
    assert 0 < len(backwards) < 10
    assert not {"Conv", "ConvTranspose", "ScatterElements"} & {node.op_type for node in backwards}
    for graph in (whole, last):
        read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        assert all(read & set(node.output) for node in graph.node)


def test_a_first_layer_has_no_gradient_of_the_data() -> None:
    counts = Counter(node.op_type for node in gradient_graph(TRAINED).graph.node)
    assert counts["ConvTranspose"] == 1  # of the second convolution alone


def test_the_same_is_written_once() -> None:
    """Two products by the same tensor share its transpose; so does what a constant is made of."""
    text = "(float[N, 4] x) => (float[N, 4] y) { a = Mul(x, s) b = Exp(a) c = Mul(b, b) y = Add(c, b) }"
    graph = gradient_graph(("s",), text=text).graph
    seen = Counter((node.op_type, *node.input, *map(str, node.attribute)) for node in graph.node)
    assert max(seen.values()) == 1
    constants = Counter(
        (tuple(t.dims), t.data_type, t.raw_data) for t in graph.initializer if "back" in t.name
    )
    assert max(constants.values()) == 1


@pytest.mark.skipif(not has_compiler(), reason="needs numba")
@pytest.mark.parametrize("shards", [1, 2])
def test_functions_take_the_place_of_operators(
    build: Build, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    """On processors, and with the same gradients; of what is left of their nodes, none is unknown to stock runtimes."""
    monkeypatch.setattr(stacked_plan, "_MOVED", 0.0)
    monkeypatch.setattr(ort_norms, "FEWEST", 4)
    model, spec = model_from(NET, WEIGHTS), TrainingSpec(TRAINED, "cross-entropy", batch=32, shards=shards)
    (_, content), *_ = prepare(model, spec, Plain())._differentiated()
    graph = onnx.load_from_string(content).graph
    kinds = ("CONVOLVE", "WEIGHTS", "NORMALISE", "DENORMALISE", "POOL", "UNPOOL")
    assert {getattr(joining, kind) for kind in kinds} <= set(calls_of(graph))
    assert {node.domain for node in graph.node} <= {"", joining.DOMAIN, ort_blocked.DOMAIN}
    ours = build(model, TRAINED, "cross-entropy", batch=32, shards=shards)
    with monkeypatch.context() as without:
        without.setattr(functions, "can_stack", lambda: False)
        plain = build(model, TRAINED, "cross-entropy", batch=32, shards=shards)
    x, labels = normal(32, 3, 8, 8, seed=7), np.arange(32) % 5
    assert ours.step({"x": x}, labels) == pytest.approx(plain.step({"x": x}, labels), rel=1e-6)
    for name in TRAINED:
        expected = gradient_of(plain, name)
        assert np.linalg.norm(gradient_of(ours, name) - expected) <= 1e-5 * np.linalg.norm(expected), name
    for name, value in plain.buffers.items():
        np.testing.assert_allclose(ours.buffers[name], value, rtol=1e-5, err_msg=name)


def test_shards_of_any_size_meet_at_nodes_of_the_same_names() -> None:
    """Where constants that are numbered happen to be equal, as sizes are, fewer are written."""
    model = model_from(NET, WEIGHTS)
    named = []
    for size in range(1, 10):
        spec = TrainingSpec(TRAINED, "cross-entropy", batch=size, shards=1)
        training = prepare(model, spec, Plain())._graph(size).lowered.model
        graph = differentiate(training, TRAINED, kernels=True)[0].graph
        named.append({node.name for node in graph.node if is_kernel(node)})
    assert len(named[0]) == 6  # two convolutions back, a norm forth and back, Relu and MaxPool back
    assert all(each == named[0] for each in named)


def test_the_model_is_left_alone() -> None:
    model = model_from(NET, WEIGHTS)
    before = model.SerializeToString()
    prepare(model, TrainingSpec(TRAINED, "cross-entropy", batch=4), Plain())._differentiated()
    assert model.SerializeToString() == before


@pytest.mark.parametrize("reduction", ["sum", "mean", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
def test_cross_entropy_in_a_model(build: Build, reduction: str, weighted: bool, ignored: bool) -> None:
    """As an operator of the model, with weights of classes and labels that are left out, in every reduction."""
    attribute = ", ignore_index=2" if ignored else ""
    text = (
        "(float[N, 4] x) => (float loss) { a = Mul(x, w) "
        f'l = SoftmaxCrossEntropyLoss<reduction="{reduction}"{attribute}>(a, labels{", c" if weighted else ""}) '
        "loss = ReduceSum<keepdims=0>(l) }"
    )
    labels, classes = np.array([0, 2, 3, 2, 1]), np.array([1, 2, 0.5, 3], np.float32)
    weights = {"w": normal(4), "labels": labels} | ({"c": classes} if weighted else {})
    session = build(model_from(text, weights), ("w",), "output", batch=5, shards=1)
    x = normal(5, 4, seed=9)
    factor = (classes if weighted else np.ones(4))[labels] * (labels != 2 if ignored else 1)
    factor = factor / (factor.sum() if reduction == "mean" else 1)
    powers = np.exp(x * weights["w"])
    share = powers / powers.sum(axis=1, keepdims=True)
    loss = -(factor * np.log(share[np.arange(5), labels])).sum()
    assert session.step({"x": x}, None) == pytest.approx(loss, rel=1e-5)
    expected = ((share - np.eye(4)[labels]) * factor[:, None] * x).sum(axis=0)
    np.testing.assert_allclose(gradient_of(session, "w"), expected, rtol=1e-4, atol=1e-5)


IMAGE = Facts(shapes={"x": (2, 4, 6, 6), "y": (2, 4, 6, 6), "w": (4, 4, 3, 3)})

OPEN = replace(IMAGE, ranks={**{name: len(shape) for name, shape in IMAGE.shapes.items()}, "o": 4})
"""There is also `o`, whose sizes depend on values; of any other tensor not even the rank is known."""


@pytest.mark.parametrize(
    ("body", "facts", "reason"),
    [
        ('y = Conv<auto_pad="SAME_UPPER">(x, w)', IMAGE, "pads are not written out"),
        ("y = Conv(x, v)", IMAGE, "shape of 'v' is not known"),
        ("y = ConvTranspose<output_shape=[6, 6]>(x, w)", IMAGE, "output_shape"),
        ("y = MaxPool<kernel_shape=[2, 2], storage_order=1>(x)", IMAGE, "row-major"),
        ("y = MaxPool<kernel_shape=[2, 2], pads=[2, 0, 0, 0]>(x)", IMAGE, "as large as the kernel"),
        ("y = MaxPool<kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1>(x)", IMAGE, "in the pads altogether"),
        ("y = AveragePool<kernel_shape=[2, 2], dilations=[2, 2]>(x)", IMAGE, "dilations"),
        ("y = AveragePool<kernel_shape=[2, 2], ceil_mode=1, count_include_pad=1>(x)", IMAGE, "whole kernel"),
        ('y = Pad<mode="edge">(x, w)', IMAGE, "constant pads only"),
        ("y = Pad(x, w)", IMAGE, "computed by the model"),
        ('y = ScatterND<reduction="add">(x, w, x)', IMAGE, "ignores its reduction 'add'"),
        ("y = ReduceSum(x, w)", IMAGE, "its axes 'w' are computed"),
        ("y = ReduceSum<noop_with_empty_axes=1>(x)", IMAGE, "reduces nothing"),
        ("y = BatchNormalization(x, w, w, w, w)", IMAGE, "given statistics"),
        ("y = Conv(o, o)", OPEN, "shape of 'o' is not known"),
        ("y = Conv(o, w)", IMAGE, "shape of 'o' is not known"),
        ("y = Add(o, p)", OPEN, "shape of 'p' is not known"),
        ("y = GatherND<batch_dims=1>(x, o)", OPEN, "it has batches"),
        ("y = MaxPool<kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1>(o)", OPEN, "in the pads altogether"),
        ("y = AveragePool<kernel_shape=[2, 2], ceil_mode=1>(o)", OPEN, "in the pads altogether"),
        ("y = BatchNormalization<training_mode=1>(x, o, w, w, w)", OPEN, "shape of 'o' is not known"),
        ("y = SoftmaxCrossEntropyLoss(o, x)", OPEN, "shape of 'o' is not known"),
        ("y = Elu(x)", IMAGE, "no gradient for this op"),
        ("y = com.acme.Relu(x)", IMAGE, "no gradient for this op"),
    ],
)
def test_reasons(body: str, facts: Facts, reason: str) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 19, "com.acme": 1]> g (float[2] x) => (float[2] y) {{ {body} }}'
    )
    (node,) = model.graph.node
    assert reason in (Plain().covers(node, facts) or "")


def test_bounds_and_other_outputs() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 19]> g (float[2] x) => (float[2] y) '
        "{ a = Clip(x, l) y, m, d = LayerNormalization(a, s) }"
    )
    clip, norm = model.graph.node
    shapes = dict.fromkeys("xlasymd", (2,))
    assert "bounds" in (Plain().covers(clip, Facts(shapes=shapes, carried={"x", "l"})) or "")
    assert Plain().covers(clip, Facts(shapes=shapes, carried={"x"})) is None
    assert "output 'm'" in (Plain().covers(norm, Facts(shapes=shapes, read={"y", "m"})) or "")
    assert Plain().covers(norm, Facts(shapes=shapes, read={"y"})) is None


def test_old_opsets_keep_their_meaning() -> None:
    """RoiAlign took other coordinates by default before 16; a graph that is made newer says so."""
    text = (
        "(float[N, 1, 4, 4] x) => (float[N, 1, 2, 2] y) { "
        "r = RoiAlign<output_height=2, output_width=2>(k, boxes, rows) "
        "t = ReduceSum<keepdims=0>(r) p = MaxPool<kernel_shape=[3, 3]>(x) u = Mul(p, w) y = Add(u, t) }"
    )
    weights = {
        "k": normal(1, 1, 4, 4),
        "boxes": np.array([[0, 0, 3, 3]], np.float32),
        "rows": np.zeros(1, np.int64),
        "w": normal(1),
    }
    model = model_from(text, {})
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.opset_import[0].version = 15
    preparation = prepare(model, TrainingSpec(("w",), "mse", batch=2, shards=1), Plain(on_cpu=False))
    ((_, content),) = preparation._differentiated()
    graph = onnx.load_from_string(content)
    assert opset_of(graph) == 16
    (align,) = (node for node in graph.graph.node if node.op_type == "RoiAlign")
    assert any(each.s == b"output_half_pixel" for each in align.attribute)


def test_it_is_one_of_the_backends() -> None:
    assert BACKENDS["plain"]().name == "plain"
    assert BACKENDS["plain"]().why_not() is None
    assert BACKENDS["plain"]().joins_statistics() == has_compiler()
    assert not Plain(on_cpu=False).joins_statistics()
