"""What is trained and what is left: by role, and by name and values where a constant has the role of a parameter."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import UsageError
from onnx_oto.model import normal_form, normalise
from onnx_oto.model.normal.origins import Origins
from onnx_oto.zigs import Parameters, analyse, parameters
from onnx_oto.zigs.learning import INSIDE, PLAIN, TABLE, WRITTEN, is_table, told

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def found(nodes: str, weights: dict[str, np.ndarray], **options) -> Parameters:  # type: ignore[no-untyped-def]
    """`nodes` stand between a convolution of x [N, 3, 4, 4] to `h`, 6 channels, and one that reads `z`."""
    text = f"""<ir_version: 8, opset_import: ["":17]> g (float[N,3,4,4] x) => (float[N,2,4,4] y)
        {{ h = Conv(x, w1) {nodes} y = Conv(z, w2) }}"""
    model = parser.parse_model(text)
    weights = {"w1": normal(6, 3, 1, 1), "w2": normal(2, 6, 1, 1), **weights}
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    for key, name in options.pop("names", {}).items():
        _rename(model, key, name)
    origins = Origins()
    return parameters(analyse(normal_form(model, origins=origins).model), origins, **options)


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for tensor in model.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = new if name == old else name


NORM = "z = InstanceNormalization(h, s, b)"
ONES = {"s": np.ones(6), "b": np.zeros(6)}


@pytest.mark.parametrize("name", ["/norm/Constant_{}_output_0", "val_1{}", "onnx::InstanceNormalization_{}"])
def test_ones_and_zeros_that_an_exporter_wrote_are_left(name: str) -> None:
    result = found(NORM, ONES, names={"s": name.format(1), "b": name.format(2)})
    assert result.trained == ("w1", "w2")
    assert result.left == {name.format(1): PLAIN, name.format(2): PLAIN}


def test_a_fresh_norm_of_the_user_is_trained() -> None:
    result = found(NORM, ONES, names={"s": "norm.weight", "b": "norm.bias"})
    assert set(result.trained) == {"w1", "w2", "norm.weight", "norm.bias"}


def test_a_norm_that_learned_something_is_trained_under_any_name() -> None:
    values = {"s": np.ones(6), "b": normal(6)}
    assert set(found(NORM, values, names={"s": "val_1", "b": "val_2"}).trained) >= {"val_1", "val_2"}


@pytest.mark.parametrize("node", ["z = Add(h, t)", "z = Mul(h, t)"])
def test_a_constant_written_in_the_code_is_left(node: str) -> None:
    result = found(node, {"t": normal(6, 1, 1)}, names={"t": "/layer/Constant_3_output_0"})
    assert result.left == {"/layer/Constant_3_output_0": WRITTEN}


@pytest.mark.parametrize("name", ["onnx::Add_12", "block.scale", "const_fold_opt__5"])
def test_what_an_exporter_folded_is_trained(name: str) -> None:
    assert name in found("z = Add(h, t)", {"t": normal(6, 1, 1)}, names={"t": name}).trained


TABLES = {
    "grid": np.indices((6, 4, 4))[1] + 0.5,
    "anchors": np.broadcast_to(np.array([8.0, 16, 32, 64]), (6, 4, 4)),
    "mask": np.where(np.eye(4) > 0, 0, -1e9) * np.ones((6, 1, 1)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_left_whatever_its_name(kind: str) -> None:
    assert found("z = Add(h, t)", {"t": TABLES[kind]}).left == {"t": TABLE}


def test_positions_written_as_sines_are_tables_learned_ones_are_not() -> None:
    angles = np.outer(np.arange(50), 10000.0 ** (-np.arange(8) / 8))
    encoded = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, 50, 16).astype(np.float32)
    assert is_table(encoded)
    assert is_table(encoded * 4)
    assert not is_table(encoded + 0.02 * normal(1, 50, 16))
    assert not is_table(0.02 * normal(1, 50, 16))


@pytest.mark.parametrize("fresh", [np.zeros((4, 5)), np.ones((1, 7)), np.array([0.0, 1, 0, 1])])
def test_a_fresh_parameter_is_no_table(fresh: np.ndarray) -> None:
    assert not is_table(fresh)


def test_a_scalar_slope_and_the_bias_of_one_output_are_trained() -> None:
    text = """<ir_version: 8, opset_import: ["":17]> g (float[N,3] x) => (float[N,1] y, float[N,1] v)
        <float[1] slope = {0.25}, float[1] b2 = {0.5}, float[1] b3 = {0.5}, float two = {2.0}>
        { a = MatMul(x, w1) b = PRelu(a, slope) y = Gemm(b, w2, b2)
          c = Mul(b, two) d = MatMul(c, w3) v = Add(d, b3) }"""
    model = parser.parse_model(text)
    for name, shape in {"w1": (3, 5), "w2": (5, 1), "w3": (5, 1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(normal(*shape), name))
    assert set(parameters(analyse(normalise(model))).trained) == {"w1", "w2", "w3", "slope", "b2", "b3"}


def test_what_a_dotted_parameter_is_computed_to_is_trained_through_it() -> None:
    """A bias that the graph puts together is a parameter all the same: Swin v2 clears the middle third of one."""
    text = """<ir_version: 8, opset_import: ["":17]> g (float[N,3,4,4] x) => (float[N,6,4,4] z)
        <int64[3] shape = {6,1,1}, int64[2,1] i = {2,3}, float[2] o = {0.0,0.0}>
        { h = Conv(x, w1) c = ScatterND(t, i, o) e = Reshape(c, shape) z = Add(h, e) }"""
    model = parser.parse_model(text)
    for name, value in {"w1": normal(6, 3, 1, 1), "t": normal(6)}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    _rename(model, "t", "qkv.bias")
    assert set(parameters(analyse(model)).trained) == {"w1", "qkv.bias"}


def test_the_scale_of_a_norm_is_trained_through_what_it_is_computed_to() -> None:
    """InstanceNorm2d with running statistics, as PyTorch exports it: one BatchNormalization over all samples."""
    text = """<ir_version: 8, opset_import: ["":18]> g (float[N,3,4,4] x) => (float[N,2,4,4] y)
        <int64[4] flat = {1,-1,4,4}, int64[4] back = {-1,6,4,4}> { h = Conv(x, w1) n = Shape<end=1>(h)
          f = Reshape(h, flat) p = Tile(s, n) q = Tile(b, n) r = Tile(m, n) t = Tile(v, n)
          u = BatchNormalization(f, p, q, r, t) z = Reshape(u, back) y = Conv(z, w2) }"""
    model = parser.parse_model(text)
    shapes = {"w1": (6, 3, 1, 1), "w2": (2, 6, 1, 1), "s": (6,), "b": (6,), "m": (6,), "v": (6,)}
    for name, shape in shapes.items():
        model.graph.initializer.append(numpy_helper.from_array(abs(normal(*shape)) + 0.1, name))
    for old, new in {"s": "n.weight", "b": "n.bias", "m": "n.running_mean", "v": "n.running_var"}.items():
        _rename(model, old, new)
    assert set(parameters(analyse(normalise(model))).trained) == {"w1", "w2", "n.weight", "n.bias"}


def test_preprocessing_is_left() -> None:
    text = """<ir_version: 8, opset_import: ["":17]> g (float[N,3,4,4] x) => (float[N,6,4,4] y)
        { a = Sub(x, m) b = Mul(a, s) y = Conv(b, w1) }"""
    model = parser.parse_model(text)
    for name, value in {"w1": normal(6, 3, 1, 1), "m": normal(3, 1, 1), "s": normal(3, 1, 1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    assert parameters(analyse(normalise(model))).trained == ("w1",)


def test_asking_for_more() -> None:
    name = "/layer/Constant_3_output_0"
    result = found("z = Add(h, t)", {"t": normal(6, 1, 1)}, names={"t": name}, also=("/layer/*",))
    assert name in result.trained
    assert not result.left
    with pytest.raises(UsageError, match=r"--also-train 'w9' matches no float initializer .*did you mean 'w"):
        found("z = Relu(h)", {}, also=("w9",))


def test_a_weight_that_is_also_normalised_is_told() -> None:
    """Normal form folds the normalised one, so that its channels may go: it is trained in its own right."""
    text = """<ir_version: 8, opset_import: ["":17]> g (float[N,6] x) => (float[N,6] y)
        { q = ReduceL2<axes=[1], keepdims=1>(w) n = Div(w, q) t = Transpose(n) a = MatMul(x, t) y = MatMul(a, w) }"""
    model = parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(normal(10, 6), "w"))
    origins = Origins()
    result = parameters(analyse(normal_form(model, origins=origins).model), origins)
    assert set(result.trained) == {"w", "t"}
    assert told(result, origins) == (
        "'t' is computed from 'w', which is also used as it is: trained as two parameters",
    )


def test_what_is_left_is_told() -> None:
    assert told(Parameters(("w",), {}), Origins()) == ()
    (sentence,) = told(Parameters(("w",), {"t": TABLE, "u": PLAIN}), Origins())
    assert sentence.startswith(
        "not trained: 't' (its values are those of a table or a mask) and 1 more; --also-train"
    )


BRANCH = """c = ReduceSum<keepdims = 0>(x) k = Cast<to = 9>(c) z = If (k) <then_branch = t () => (float[?,6,4,4] p)
    { p = Conv(h, wi) }, else_branch = e () => (float[?,6,4,4] q) { q = Conv(h, v) }> """


def test_what_bodies_alone_read_is_left() -> None:
    weights = {"wi": normal(6, 6, 1, 1), "w": normal(6, 6, 1, 1)}
    left = found("v = Transpose<perm = [1, 0, 2, 3]>(w) " + BRANCH, weights)
    assert left.trained == ("w1", "w2")
    assert set(left.left.values()) == {INSIDE}
    assert len(left.left) == 2


def test_what_a_body_shares_with_a_layer_outside_is_trained() -> None:
    weights = {"wi": normal(6, 6, 1, 1), "v": normal(6, 6, 1, 1)}
    assert found(
        "h0 = Conv(h, v) g = Relu(h0) " + BRANCH.replace("Conv(h, v)", "Conv(g, v)"), weights
    ).trained == (
        "w1",
        "w2",
        "v",
    )


def test_what_a_loop_of_few_trips_reads_is_trained() -> None:
    loop = """m = Constant<value_int = {}>() t = Constant<value = bool {{1}}>() z = Loop (m, t, h)
        <body = b (int64 i, bool go, float[?,6,4,4] s) => (bool on, float[?,6,4,4] r)
        {{ on = Identity(go) r = Conv(s, wi) }}> """
    weights = {"wi": normal(6, 6, 1, 1)}
    assert found(loop.format(3), weights).trained == ("w1", "w2", "wi")
    assert found(loop.format(1000), weights).left == {"wi": INSIDE}
