"""BatchNormalization in training, against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.errors import UnsupportedError, UsageError

from .conftest import Build, gradient_of, model_from, normal

EPSILON, MOMENTUM = 1e-3, 0.8
BODY = f"y = BatchNormalization<epsilon={EPSILON}, momentum={MOMENTUM}>(x, scale, shift, mean, var)"
PLAIN = f"(float[N, 3, 2, 2] x) => (float[N, 3, 2, 2] y) {{ {BODY} }}"
WEIGHTS = {
    "scale": normal(3, seed=1),
    "shift": normal(3, seed=2),
    "mean": normal(3, seed=3),
    "var": np.abs(normal(3, seed=4)) + 0.5,
}


def numpy_loss(x: np.ndarray, target: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> float:
    """Return the mean squared error of a batch norm over axes 0, 2, 3 with batch statistics."""
    x = x.astype(np.float64)
    mean, var = (statistic(x, axis=(0, 2, 3), keepdims=True) for statistic in (np.mean, np.var))
    y = (x - mean) / np.sqrt(var + EPSILON) * scale.reshape(3, 1, 1) + shift.reshape(3, 1, 1)
    return float(((y - target) ** 2).mean())


def test_gradients_with_batch_statistics(build: Build) -> None:
    """Also through the statistics: x is the image plus a trained offset."""
    model = model_from(
        f"(float[N, 3, 2, 2] data) => (float[N, 3, 2, 2] y) {{ x = Add(data, offset) {BODY} }}",
        {**WEIGHTS, "offset": normal(1, 3, 2, 2, seed=5)},
    )
    names = ("offset", "scale", "shift")
    session = build(model, names, batch=4, shards=1)
    data, target = normal(4, 3, 2, 2, seed=6), normal(4, 3, 2, 2, seed=7)
    values = {name: value.astype(np.float64) for name, value in session.weights().items() if name in names}

    def loss(values: dict[str, np.ndarray]) -> float:
        return numpy_loss(data + values["offset"], target, values["scale"], values["shift"])

    assert session.step({"data": data}, target) == pytest.approx(loss(values), rel=1e-5)
    for name in names:
        expected = np.zeros(values[name].shape)
        for place in np.ndindex(*expected.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = values[name].copy()
                moved[place] += step
                ends.append(loss({**values, name: moved}))
            expected[place] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(gradient_of(session, name), expected, atol=2e-5)


def test_running_statistics(build: Build) -> None:
    """running = running * momentum + batch * (1 - momentum); the variance is the unbiased one, divided by n - 1."""
    session = build(model_from(PLAIN, WEIGHTS), ("scale", "shift"), batch=4, shards=1)
    mean, var = WEIGHTS["mean"].astype(np.float64), WEIGHTS["var"].astype(np.float64)
    for seed in (1, 2):
        x = normal(4, 3, 2, 2, seed=seed)
        session.step({"x": x}, x)
        mean = mean * MOMENTUM + x.mean(axis=(0, 2, 3), dtype=np.float64) * (1 - MOMENTUM)
        var = var * MOMENTUM + x.var(axis=(0, 2, 3), dtype=np.float64, ddof=1) * (1 - MOMENTUM)
    np.testing.assert_allclose(session.buffers["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(session.buffers["var"], var, rtol=1e-5)


def test_running_statistics_are_averaged_over_shards(build: Build) -> None:
    session = build(model_from(PLAIN, WEIGHTS), ("scale", "shift"), batch=5, shards=2, statistics="shard")
    x = normal(5, 3, 2, 2)
    session.step({"x": x}, x)
    parts = (x[:3].astype(np.float64), 3 / 5), (x[3:].astype(np.float64), 2 / 5)
    var = sum(part.var(axis=(0, 2, 3), ddof=1) * share for part, share in parts)
    np.testing.assert_allclose(
        session.buffers["var"], WEIGHTS["var"] * MOMENTUM + var * (1 - MOMENTUM), rtol=1e-5
    )


def test_one_element_per_channel_has_no_unbiased_variance(build: Build) -> None:
    """PyTorch refuses it; here the variance is 0 as it stands, rather than infinite."""
    body = f"y = BatchNormalization<epsilon={EPSILON}, momentum={MOMENTUM}>(x, scale, shift, mean, var)"
    model = model_from(f"(float[N, 3] x) => (float[N, 3] y) {{ {body} }}", WEIGHTS)
    session = build(model, ("scale", "shift"), batch=1, shards=1)
    session.step({"x": normal(1, 3)}, normal(1, 3))
    np.testing.assert_allclose(session.buffers["var"], WEIGHTS["var"] * MOMENTUM, rtol=1e-5)


def test_fixed_statistics_train_scale_and_shift_alone(build: Build) -> None:
    """y = x * a + b with the statistics that came, which stay: the gradients are those of y as `predict` has it."""
    session = build(model_from(PLAIN, WEIGHTS), ("scale", "shift"), batch=4, shards=2, fixed_statistics=True)
    x, target = normal(4, 3, 2, 2, seed=1), normal(4, 3, 2, 2, seed=2)
    loss = session.step({"x": x}, target)
    error = session.predict({"x": x}).astype(np.float64) - target
    assert loss == pytest.approx(float((error**2).mean()), rel=1e-5)
    normed = (x - WEIGHTS["mean"].reshape(3, 1, 1)) / np.sqrt(WEIGHTS["var"].reshape(3, 1, 1) + EPSILON)
    for name, slope in (("scale", normed), ("shift", np.ones_like(x))):
        expected = (2 * error * slope).sum(axis=(0, 2, 3)) / error.size
        np.testing.assert_allclose(gradient_of(session, name), expected, rtol=1e-4, atol=1e-6)
    assert session.buffers == {}
    assert set(session.weights()) == {"scale", "shift"}


@pytest.mark.parametrize("trainable", [("offset", "scale", "shift"), ("offset",)])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_node_in_training_mode_updates_its_statistics(
    build: Build, trainable: tuple[str, ...], fixed: bool
) -> None:
    """A model whose updated statistics are outputs stays so: they are updated whatever trains, and never zero."""
    outputs = "(float[N, 3, 2, 2] y, float[3] m2, float[3] v2)"
    body = BODY.replace("y =", "y, m2, v2 =").replace("<", "<training_mode=1, ")
    model = model_from(
        f"(float[N, 3, 2, 2] data) => {outputs} {{ x = Add(data, offset) {body} }}",
        {**WEIGHTS, "offset": np.zeros((1, 3, 1, 1), np.float32)},
    )
    session = build(model, trainable, batch=4, shards=1, fixed_statistics=fixed)
    x, target = normal(4, 3, 2, 2, seed=1), normal(4, 3, 2, 2, seed=2)
    expected = numpy_loss(x, target, WEIGHTS["scale"], WEIGHTS["shift"])
    assert session.step({"data": x}, target) == pytest.approx(expected, rel=1e-5)
    for name, batch in (("mean", x.mean(axis=(0, 2, 3))), ("var", x.var(axis=(0, 2, 3), ddof=1))):
        wanted = WEIGHTS[name] * MOMENTUM + batch * (1 - MOMENTUM)
        np.testing.assert_allclose(session.buffers[name], wanted, rtol=1e-5)


def test_inference_uses_the_running_statistics(build: Build) -> None:
    session = build(model_from(PLAIN, WEIGHTS), ("scale", "shift"), batch=2, shards=1)
    x = normal(3, 3, 2, 2)
    session.buffers["mean"][...] = 0.5
    session.buffers["var"][...] = 4.0
    scale, shift = (WEIGHTS[name].reshape(3, 1, 1) for name in ("scale", "shift"))
    expected = (x - 0.5) / np.sqrt(4.0 + EPSILON) * scale + shift
    np.testing.assert_allclose(session.predict({"x": x}), expected, rtol=1e-5, atol=1e-6)


def test_without_trained_scale_the_statistics_stay_fixed(build: Build) -> None:
    model = model_from(
        f"(float[N, 3, 2, 2] data) => (float[N, 3, 2, 2] y) {{ x = Mul(data, factor) {BODY} }}",
        {**WEIGHTS, "factor": normal(3, 1, 1)},
    )
    session = build(model, ("factor",), batch=2, shards=1)
    data, target = normal(2, 3, 2, 2, seed=1), normal(2, 3, 2, 2, seed=2)
    loss = session.step({"data": data}, target)
    error = session.predict({"data": data}).astype(np.float64) - target
    assert loss == pytest.approx(float((error**2).mean()), rel=1e-5)
    slope = WEIGHTS["scale"] / np.sqrt(WEIGHTS["var"] + EPSILON)
    expected = (2 * error * slope.reshape(3, 1, 1) * data).sum(axis=(0, 2, 3)) / error.size
    np.testing.assert_allclose(gradient_of(session, "factor").ravel(), expected, rtol=1e-4, atol=1e-6)
    assert session.buffers == {}


def test_a_held_norm_keeps_its_statistics(build: Build) -> None:
    """Scale and shift are in the buffers and can be written, but the norm does not train."""
    model = model_from(
        f"(float[N, 3, 2, 2] data) => (float[N, 3, 2, 2] y) {{ x = Mul(data, factor) {BODY} }}",
        {**WEIGHTS, "factor": normal(3, 1, 1)},
    )
    session = build(model, ("factor",), batch=2, shards=1, held=("scale", "shift"))
    data = {"data": normal(2, 3, 2, 2, seed=1)}
    loss = session.step(data, np.zeros((2, 3, 2, 2), np.float32))
    assert session.buffers == {}
    assert loss == pytest.approx(float((session.predict(data).astype(np.float64) ** 2).mean()), rel=1e-5)
    for name in ("scale", "shift"):
        offset, _ = session.slices[name]
        session.params[offset + 1] = 0.0
    assert not session.predict(data)[:, 1].any()


def test_shared_statistics_are_updated_by_each_node_in_turn(build: Build) -> None:
    model = model_from(
        "(float[N, 2] a, float[N, 2] b) => (float[N, 2] y) {"
        f"p = BatchNormalization<momentum={MOMENTUM}>(a, scale, shift, mean, var)"
        f"q = BatchNormalization<momentum={MOMENTUM}>(b, scale, shift, mean, var) y = Add(p, q) }}",
        {name: value[:2] for name, value in WEIGHTS.items()},
    )
    session = build(model, ("scale", "shift"), batch=4, shards=1)
    a, b = normal(4, 2, seed=1), normal(4, 2, seed=2)
    session.step({"a": a, "b": b}, a)
    mean = WEIGHTS["mean"][:2] * MOMENTUM + a.mean(axis=0) * (1 - MOMENTUM)
    mean = mean * MOMENTUM + b.mean(axis=0) * (1 - MOMENTUM)
    np.testing.assert_allclose(session.buffers["mean"], mean, rtol=1e-5)


def test_statistics_cannot_be_trained(build: Build) -> None:
    with pytest.raises(UsageError, match="'var' is a running statistic"):
        build(model_from(PLAIN, WEIGHTS), ("scale", "var"), batch=2)


def test_computed_statistics_are_refused(build: Build) -> None:
    model = model_from(
        f"(float[N, 3, 2, 2] x) => (float[N, 3, 2, 2] y) {{ var = Abs(raw) {BODY} }}",
        {**{k: v for k, v in WEIGHTS.items() if k != "var"}, "raw": WEIGHTS["var"]},
    )
    with pytest.raises(UnsupportedError, match="running statistic 'var' is no float32 initializer"):
        build(model, ("scale", "shift"), batch=2)


def test_statistics_of_a_branch_that_is_not_trained_stay(build: Build) -> None:
    """The loss reads the first output; the norm in front of the second one sees no batch."""
    text = f"""(float[N, 3, 2, 2] x) => (float[N, 3, 2, 2] y, float[N, 3, 2, 2] other) {{
        {BODY} other = BatchNormalization(x, scale2, shift2, mean2, var2)
    }}"""
    second = {f"{name}2": value for name, value in WEIGHTS.items()}
    session = build(
        model_from(text, {**WEIGHTS, **second}), ("scale", "shift", "scale2", "shift2"), batch=4, shards=1
    )
    x = normal(4, 3, 2, 2)
    session.step({"x": x}, x)
    assert set(session.buffers) == {"mean", "var"}
    assert session.buffers["var"].all()
