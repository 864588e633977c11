"""Every lowering, and every op that ORT differentiates by itself, against central differences in float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_oto.gradients import Backend
from onnx_oto.gradients.backends.ort_covers import differentiable
from onnx_oto.gradients.backends.ort_training import OrtTraining
from onnx_oto.gradients.backends.plain import Plain
from onnx_oto.gradients.backends.plain.table import TABLE
from onnx_oto.gradients.graph.lowering import registered
from onnx_oto.gradients.graph.lowering.lowerings import REFUSED
from onnx_oto.model.files.loading import RUNTIME_OPSET

from .available import needs_training_build
from .harness import FLOAT32, Row, known_differences, ours
from .rows import ROWS

ELSEWHERE = {
    "BatchNormalization": "test_batchnorm.py",
    "Dropout": "test_dropout.py",
    "SoftmaxCrossEntropyLoss": "test_losses.py",
}


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_gradient_and_forward(row: Row, backend: Backend) -> None:
    loss, original, grads = ours(row, backend)
    expected_loss, expected = known_differences(row)
    assert loss == pytest.approx(expected_loss, rel=1e-5, abs=1e-5)
    if original is not None:
        assert loss == pytest.approx(original, rel=1e-5, abs=1e-5)
    assert grads.keys() == expected.keys()
    for name, gradient in expected.items():
        assert grads[name].shape == gradient.shape
        scale = max(1.0, float(np.abs(gradient).max()))
        assert np.abs(grads[name] - gradient).max() <= row.tolerance * scale, name


def test_every_op_has_a_row() -> None:
    proved = {row.op for row in ROWS} | set(ELSEWHERE)
    assert proved >= set(registered())
    assert proved >= differentiable()
    assert proved >= TABLE.keys()


def test_plain_gradients_cover_what_the_others_do() -> None:
    """By a gradient of its own, or because it is lowered to what has one."""
    assert TABLE.keys() | registered() >= differentiable()


def newest_schemas() -> dict[str, onnx.defs.OpSchema]:
    """Return the operators of the standard that the runtime knows, without those that were given up."""
    every = [schema for schema in onnx.defs.get_all_schemas() if schema.domain == ""]
    return {s.name: s for s in every if not s.deprecated and onnx.defs.has(s.name, RUNTIME_OPSET, "")}


def carries_gradient(schema: onnx.defs.OpSchema) -> bool:
    """Return whether an operator makes floats of floats: only then a gradient could flow through it."""
    ends = [[kind for item in items for kind in item.types] for items in (schema.inputs, schema.outputs)]
    return all(any("float" in kind for kind in kinds) for kinds in ends)


def test_every_operator_of_the_standard_is_decided() -> None:
    """It trains, is refused with a reason, or makes no floats of floats."""
    asked = {name for name, schema in newest_schemas().items() if carries_gradient(schema)}
    assert asked - {*registered(), *REFUSED, *differentiable()} == set()


def test_row_names_are_unique() -> None:
    names = [row.id for row in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("body", "derivative"),
    [
        ("y = Elu<alpha=1.0>(a)", 1.0),
        ("y = Celu<alpha=0.5>(a)", 1.0),
        ("y = Elu<alpha=0.5>(a)", 0.5),
        ("y = Selu(a)", 1.05070102214813232 * 1.67326319217681884765625),
        ("y = Softplus(a)", 0.5),
        ("y = Mish(a)", np.tanh(np.log(2.0))),
        ("y = Softsign(a)", 1.0),
        ("y = HardSwish(a)", 0.5),
        ("y = HardSigmoid(a)", 0.2),
        ("y = Gelu(a)", 0.5),
        ("y = ReduceL2<keepdims=0>(a)", 0.0),
        ("y = LpNormalization(a)", 0.0),
        ("y = PRelu(a, s)", 0.25),
        ("y = LeakyRelu<alpha=0.2>(a)", 0.2),
    ],
)
def test_derivative_at_zero(body: str, derivative: float, backend: Backend) -> None:
    """A channel driven to zero sits exactly at 0, where careless formulas give 0 or NaN."""
    op = body.split()[2].split("(")[0].split("<")[0]
    params = {"a": np.zeros((1, 2))}
    row = Row(op, body, params, {"s": np.full(1, 0.25, np.float32)}, opset=20)
    shift = Row(op, "y = Identity(a)", params)
    weights = ours(shift, backend)[2]["a.param"].ravel()
    got = ours(row, backend)[2]["a.param"].ravel()
    if op in ("ReduceL2", "LpNormalization"):
        assert np.isfinite(got).all()
    if op != "LpNormalization":
        np.testing.assert_allclose(got, derivative * weights if op != "ReduceL2" else 0.0, atol=FLOAT32)


@pytest.mark.parametrize(("op", "last"), [("ReduceMax", 1.0), ("ReduceMin", 3.0)])
def test_ties_share_the_gradient(op: str, last: float, backend: Backend) -> None:
    """Differences see a kink at a tie; any split that sums to the whole is a subgradient, ours is even."""
    tied, alone = ({"a": np.array([[2.0, other, last]])} for other in (2.0, last))
    loss, original, grads = ours(Row(op, f"y = {op}<axes=[1]>(a)", tied), backend)
    assert loss == pytest.approx(original, rel=1e-6)
    weight = ours(Row(op, f"y = {op}<axes=[1]>(a)", alone), backend)[2]["a.param"][0, 0]
    np.testing.assert_allclose(grads["a.param"], [[weight / 2, weight / 2, 0.0]], rtol=1e-6)


TIED = {"a": np.array([[0.0, 1.0, -1.0, 0.0, 1.0, 1.0]])}


@needs_training_build
@pytest.mark.parametrize(
    "body",
    [
        "y = Relu(a)",
        "y = Abs(a)",
        "y = LeakyRelu(a)",
        "y = Max(a, k)",
        "y = Min(k, a)",
        "y = Max(a, k, k)",
        "b = Neg(a) y = Max(a, b)",
        "y = Clip(a, z, l)",
        "r = Reshape(a, to) y = MaxPool<kernel_shape=[2, 2]>(r)",
        "r = Reshape(a, to) y = MaxPool<kernel_shape=[2, 2], strides=[1, 2]>(r)",
        "y, i = TopK(a, two)",
    ],
)
def test_backends_break_ties_alike(body: str) -> None:
    constants = {
        "k": np.array([0, 0, 0, 0, 1, 0], np.float32),
        "z": np.array(0, np.float32),
        "l": np.array(1, np.float32),
        "to": np.array([1, 1, 3, 2]),
        "two": np.array([2]),
    }
    row = Row(body.split("(")[0].split()[-1], body, TIED, constants)
    found = [ours(row, backend)[2]["a.param"] for backend in (OrtTraining(), Plain())]
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-6)
