"""Weighted entries: graph and formula are one function, whatever the shards; what is judged counts alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import UsageError
from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
from onnx_oto.losses import ENTRY_WEIGHT, OTHER, OTHER_WEIGHT, Loss, make, weighted

from .toys import Distilled

Array = np.ndarray[Any, Any]
N, STEP, TOLERANCE = 6, 1e-5, 2e-6


def model(shape: tuple[int, ...]) -> onnx.ModelProto:
    sizes = ",".join(map(str, shape))
    text = f'<ir_version: 8, opset_import: ["": 17]> g (float[N,{sizes}] x) => (float[N,{sizes}] y) {{ y = Add(x, w) }}'
    made = parser.parse_model(text)
    w = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    made.graph.initializer.append(numpy_helper.from_array(w, "w"))
    return made


def each(loss: Loss, z: Array, y: Array, weights: Array) -> float:
    """Return the weighted sum of the losses of entries, each judged as a batch of its own."""
    total = 0.0
    classes = getattr(loss, "class_axis", None)
    labels = loss.compares == "classes"
    for row in range(N):
        for place in np.ndindex(*(y.shape[1:] if labels else ())):
            if labels:
                scores = np.moveaxis(z[row], (classes or 1) - 1 if (classes or 1) > 0 else -1, -1)[place]
                plain = make("cross-entropy", ignore=loss.ignore, smoothing=loss.smoothing)  # type: ignore[attr-defined]
                value = plain.judge([scores[None]], {"y": y[row][place].reshape(1)}, 1)
                total += float(value.losses[0] * value.weights[0]) * float(weights[row][place])
            else:
                value = loss.judge([z[row : row + 1]], {"y": y[row : row + 1]}, 1)
                total += float(value.losses[0] * value.weights[0]) * float(weights[row])
    return total


LABELLED = [
    ("cross-entropy", (3,), ()),
    ("cross-entropy:smoothing=0.2", (3, 2), (2,)),
    ("cross-entropy:class_axis=-1,smoothing=0.1", (2, 3), (2,)),
    ("cross-entropy:class_axis=2", (2, 3, 2), (2, 2)),
]


def case(
    name: str, shape: tuple[int, ...], rest: tuple[int, ...], mixed: bool
) -> tuple[Loss, dict[str, Array]]:
    rng = np.random.default_rng(5)
    loss = make(name)
    if loss.compares != "classes":
        return loss, {
            "y": rng.random((N, *shape)).astype(np.float32),
            ENTRY_WEIGHT: rng.random(N).astype(np.float32),
        }
    targets: dict[str, Array] = {}
    for label, weight in (("y", ENTRY_WEIGHT), (OTHER, OTHER_WEIGHT))[: 1 + mixed]:
        labels = rng.integers(0, 3, (N, *rest))
        labels[0] = labels.reshape(-1)[-1] = -100
        weights = rng.random((N, *rest)).astype(np.float32)
        weights[labels == -100] = 0
        targets |= {label: labels, weight: weights}
    return loss, targets


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(
    ("name", "shape", "rest", "mixed"),
    [(*row, mixed) for row in LABELLED for mixed in (False, True)]
    + [(name, (3, 2), (), False) for name in ("mse", "l1", "smooth-l1", "bce-with-logits")]
    + [("mse", (3,), (), False)],
)
def test_graph_and_formula_are_one_function(
    name: str, shape: tuple[int, ...], rest: tuple[int, ...], mixed: bool, shards: int
) -> None:
    inner, targets = case(name, shape, rest, mixed)
    loss = weighted(inner, mixed=mixed)
    x = np.random.default_rng(1).standard_normal((N, *shape)).astype(np.float32)
    w = np.random.default_rng(2).standard_normal(shape).astype(np.float32).astype(np.float64)
    whole = sum(float(targets[n].sum(dtype=np.float64)) for n in (ENTRY_WEIGHT, OTHER_WEIGHT) if n in targets)
    if inner.compares != "classes":
        whole *= np.prod(shape)
    assert loss.count(targets, N) == pytest.approx(whole, rel=1e-6)

    def value(w: Array) -> float:
        pairs = [("y", ENTRY_WEIGHT), (OTHER, OTHER_WEIGHT)][: 1 + mixed]
        return sum(each(inner, x + w, targets[y], targets[v]) for y, v in pairs) / whole

    session = prepare(
        model(shape), TrainingSpec(("w",), loss, batch=N, shards=shards), choose_backend()
    ).build()
    found = session.step({"x": x}, targets)
    gradient = session.grads[: w.size].reshape(shape).astype(np.float64)
    session.close()
    assert found == pytest.approx(value(w), rel=TOLERANCE)
    expected = np.zeros(shape)
    for place in np.ndindex(*shape):
        up, down = w.copy(), w.copy()
        up[place] += STEP
        down[place] -= STEP
        expected[place] = (value(up) - value(down)) / (2 * STEP)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=TOLERANCE * max(1.0, np.abs(expected).max()))


def test_weights_of_one_change_nothing() -> None:
    """Loss and gradient are those of the loss without weights, to the last bits of a sum."""
    inner, targets = case("cross-entropy:smoothing=0.2", (3, 2), (2,), False)
    targets[ENTRY_WEIGHT] = (targets["y"] != -100).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((N, 3, 2)).astype(np.float32)
    results = []
    for loss in (inner, weighted(inner)):
        session = prepare(
            model((3, 2)), TrainingSpec(("w",), loss, batch=N, shards=2), choose_backend()
        ).build()
        results.append((session.step({"x": x}, targets), session.grads.copy()))
        session.close()
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-6)


def test_a_batch_that_counts_for_nothing_moves_nothing() -> None:
    inner, targets = case("cross-entropy", (3,), (), False)
    targets[ENTRY_WEIGHT] = np.zeros(N, np.float32)
    x = np.ones((N, 3), np.float32)
    session = prepare(model((3,)), TrainingSpec(("w",), weighted(inner), batch=N), choose_backend()).build()
    assert session.step({"x": x}, targets) == 0
    assert not session.grads.any()
    session.close()


def test_what_is_judged_counts_alike() -> None:
    """Validation and test data hold no weights."""
    inner, targets = case("cross-entropy", (3,), (), False)
    del targets[ENTRY_WEIGHT]
    assert weighted(inner).count(targets, N) == inner.count(targets, N) == 4
    z = np.random.default_rng(0).standard_normal((N, 3))
    plain, heavy = (loss.judge([z], targets, N) for loss in (inner, weighted(inner)))
    np.testing.assert_array_equal(plain.weights, heavy.weights)
    np.testing.assert_array_equal(plain.losses, heavy.losses)


@pytest.mark.parametrize("loss", [make("output"), Distilled()])
def test_losses_that_cannot_tell_entries_apart_are_refused(loss: Loss) -> None:
    with pytest.raises(
        UsageError, match=f"the loss '{loss.name}' is one number for all samples or reads other"
    ):
        weighted(loss)
