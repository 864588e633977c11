"""Layers whose outputs are brought back to the mean and variance they had: by norms of their own, or put there."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper

from onnx_oto.gradients.put_back import layers_without_norm
from onnx_oto.model import normalise
from onnx_oto.model.normal.serving import Serving
from onnx_oto.model.view import graph
from onnx_oto.pipeline.recalibrating import recalibrated
from onnx_oto.refit.recalibration import norms_of, watching, with_batch_statistics

HEAD = '<ir_version: 8, opset_import: ["" : 17]> '
PLAIN = (
    HEAD
    + """
g (float[N,3,H,W] x) => (float[N,4] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)
    b = Relu(a)
    c = Conv(b, w2, b2)
    d = Relu(c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    y = MatMul(f, w3)
}
"""
)
NORMED = (
    HEAD
    + """
g (float[N,3,H,W] x) => (float[N,4] y) {
    a = Conv<pads=[1,1,1,1]>(x, w1)
    n = BatchNormalization(a, scale, shift, mean, var)
    b = Relu(n)
    e = GlobalAveragePool(b)
    f = Flatten(e)
    y = MatMul(f, w3)
}
"""
)
SHAPES = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 1, 1), "b2": (8,), "w3": (8, 4)}
SHAPES |= dict.fromkeys(("scale", "shift", "mean", "var"), (8,))
SERVING = Serving({}, {})


def made(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(2)
    read = {name for node in model.graph.node for name in node.input}
    for name, shape in SHAPES.items():
        if name in read:
            value = rng.standard_normal(shape).astype(np.float32)
            value = np.abs(value) + 0.5 if name == "var" else value
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    return normalise(model)


def images(count: int = 64) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((count, 3, 6, 6)).astype(np.float32)


def batches():
    return ({"x": part} for part in np.split(images(), 2))


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def changed(model: onnx.ModelProto, new: dict[str, np.ndarray]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(new[tensor.name].astype(np.float32), tensor.name))
    return result


def layers_of(model: onnx.ModelProto):
    view = graph(model)
    return layers_without_norm(view, list(view.initializers))[0]


TWICE = NORMED.replace(
    "b = Relu(n)", "m = BatchNormalization<epsilon=0.01>(n, scale2, shift2, mean2, var2) b = Relu(m)"
)
SHAPES |= {f"{name}2": (8,) for name in ("scale", "shift", "mean", "var")}


def test_norms_are_watched_as_they_are_and_with_the_statistics_of_the_batch():
    model, x = made(TWICE), images(8)
    norms = norms_of(model)
    assert [(norm.source, norm.mean, norm.variance) for norm in norms] == [
        ("a", "mean", "var"),
        ("n", "mean2", "var2"),
    ]
    assert [norm.epsilon for norm in norms] == pytest.approx([1e-5, 0.01])
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    plain.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("a", "n"))
    _, a, n = run(plain, x)
    of_a, of_n = ((each.mean((0, 2, 3)), each.var((0, 2, 3))) for each in (a, n))
    close = {"rtol": 1e-3, "atol": 1e-4}
    seen = run(watching(model, norms), x)
    for found, expected in zip(seen, (*of_a, *of_n), strict=True):
        np.testing.assert_allclose(found, expected, **close)
    rng = np.random.default_rng(1)
    given = {name: (rng.uniform(0.5, 2, 8), rng.standard_normal(8)) for name in ("mean", "mean2")}
    seen = run(with_batch_statistics(model, norms, given), x)
    deviation, mean = given["mean"]
    for found, expected in zip(seen, (*of_a, mean, deviation**2), strict=True):
        np.testing.assert_allclose(found, expected, **close)


def test_norms_of_shared_statistics_are_left_alone():
    model = made(NORMED)
    model.graph.node.append(onnx.helper.make_node("Identity", ["mean"], ["again"], name="again"))
    assert norms_of(model) == ()


@pytest.mark.parametrize("text", [PLAIN, NORMED], ids=["norms put there", "norms of its own"])
def test_channels_that_were_only_scaled_come_back(text):
    """The first layer gives a half to twice of what it gave, shifted: the outputs are the same again."""
    model = made(text)
    factor = np.linspace(0.5, 2, 8).astype(np.float32)
    new = {"w1": values(model)["w1"] * factor[:, None, None, None]}
    moved = {"mean": values(model)["mean"] + 1} if "mean" in values(model) else {}
    off = changed(model, new | moved)
    x = images(32)
    before = run(model, x)[0]
    assert np.abs(run(off, x)[0] - before).max() > 0.2 * np.abs(before).max()
    found = recalibrated(model, off, layers_of(model), SERVING, batches, None)
    after = run(changed(off, found), x)[0]
    np.testing.assert_allclose(after, before, atol=0.05 * np.abs(before).max())


def test_what_is_gone_stays_gone():
    model = made(PLAIN)
    new = values(model)
    for name in ("w1", "b1"):
        new[name] = new[name].copy()
        new[name][:3] = 0
    found = recalibrated(model, changed(model, new), layers_of(model), SERVING, batches, None)
    assert not found["w1"][:3].any()
    assert not found["b1"][:3].any()
    assert found["w1"][3:].any()


def test_nothing_changes_that_may_not():
    model = made(PLAIN)
    off = changed(model, {"w1": values(model)["w1"] * 0.5})
    assert set(recalibrated(model, off, layers_of(model), SERVING, batches, {"w1", "b1"})) == {"w1", "b1"}
    assert recalibrated(model, off, (), SERVING, batches, None) == {}


def test_a_channel_that_hardly_varies_any_more_is_not_blown_up():
    model = made(PLAIN)
    off = changed(model, {"w1": values(model)["w1"] * 1e-6})
    found = recalibrated(model, off, layers_of(model), SERVING, batches, None)
    assert np.abs(found["w1"]).max() <= 3.01e-6 * np.abs(values(model)["w1"]).max()
