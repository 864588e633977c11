"""What every loss promises: graph and numpy value are one function, whatever the shards; wrong data are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import DataError
from onnx_oto.gradients import TrainingSpec, choose_backend, prepare
from onnx_oto.losses import LOSSES, Blend, Distill, Loss, Match, make

from .toys import Both, Distilled

Array = np.ndarray[Any, Any]
N = 6
STEP = 1e-5
TOLERANCE = 2e-6  # of float32 sums against float64, relative to the largest entry
TEXT = "(float[N, {s}] x) => (float[N, {s}] y) {{ y = Add(x, w) }}"
TWO = "(float[N, {s}] x) => (float[N, {s}] a, float[N, {s}] b) {{ a = Add(x, w) b = Mul(x, w) }}"
OWN = "(float[N, {s}] x) => (float y) {{ z = Add(x, w) q = Mul(z, z) y = ReduceMean<keepdims=0>(q) }}"
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """A loss on a model y = x + w, or whatever `text` says: x [N, *shape], w [*shape]."""

    id: str
    loss: Loss
    shape: tuple[int, ...]
    targets: dict[str, Array] = field(default_factory=dict)
    text: str = TEXT

    def model(self) -> onnx.ModelProto:
        sizes = ",".join(map(str, self.shape))
        model = parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {self.text.format(s=sizes)}')
        model.graph.initializer.append(numpy_helper.from_array(self.w.astype(np.float32), "w"))
        return model

    @property
    def x(self) -> Array:
        return np.random.default_rng(1).standard_normal((N, *self.shape)).astype(np.float32)

    @property
    def w(self) -> Array:
        return np.random.default_rng(2).standard_normal(self.shape).astype(np.float32).astype(np.float64)

    def value(self, w: Array) -> float:
        """Return the loss of the batch by numpy alone."""
        z = self.x.astype(np.float64) + w
        outputs = {TEXT: [z], TWO: [z, self.x * w], OWN: [np.square(z).mean()]}[self.text]
        judged = self.loss.judge(outputs, self.targets, N)
        assert judged.losses.dtype == judged.weights.dtype == np.float64
        return float(judged.losses @ judged.weights / max(judged.weights.sum(), 1.0))


def labels(*shape: int, classes: int, ignored: int | None = None) -> dict[str, Array]:
    found = RNG.integers(0, classes, (N, *shape))
    if ignored is not None:
        found[0] = found[1] = ignored  # the first of three shards has nothing that counts
        found.reshape(-1)[-1] = ignored
    return {"y": found}


def floats(*shape: int) -> dict[str, Array]:
    return {"y": RNG.random((N, *shape)).astype(np.float32)}


def said(*shapes: tuple[int, ...]) -> dict[str, Array]:
    """Return what a teacher says of tensors of these shapes."""
    rng = np.random.default_rng(4)
    return {
        f"teacher.{i}": (3 * rng.standard_normal((N, *shape))).astype(np.float32)
        for i, shape in enumerate(shapes)
    }


def blended(loss: Blend, targets: dict[str, Array]) -> dict[str, Array]:
    return {**targets, "task.share": loss.shares(targets, N)}


HALF = Blend(make("cross-entropy"), Distill(), (0,))
QUARTER = Blend(make("mse"), Distill(matches=(Match(scale=3.0), Match(1, 2.0))), (0, 1), 0.25)
CASES = [
    Case("cross-entropy", make("cross-entropy"), (3,), labels(classes=3)),
    Case("cross-entropy, ignored", make("cross-entropy"), (3,), labels(classes=3, ignored=-100)),
    Case("cross-entropy, 255", make("cross-entropy:ignore=255"), (3,), labels(classes=3, ignored=255)),
    Case("cross-entropy, a class ignored", make("cross-entropy:ignore=0"), (4, 2), labels(2, classes=4)),
    Case("cross-entropy, all ignored", make("cross-entropy"), (3,), {"y": np.full(N, -100)}),
    Case("cross-entropy, pixels", make("cross-entropy"), (3, 2, 2), labels(2, 2, classes=3, ignored=-100)),
    Case(
        "cross-entropy, last axis",
        make("cross-entropy:class_axis=-1"),
        (2, 3),
        labels(2, classes=3, ignored=-100),
    ),
    Case("cross-entropy, middle", make("cross-entropy:class_axis=2"), (2, 3, 2), labels(2, 2, classes=3)),
    Case(
        "cross-entropy, smooth",
        make("cross-entropy:smoothing=0.3"),
        (3, 2),
        labels(2, classes=3, ignored=-100),
    ),
    Case("mse", make("mse"), (3, 2), floats(3, 2)),
    Case("l1", make("l1"), (3,), floats(3)),
    Case("smooth-l1", make("smooth-l1"), (5,), floats(5)),
    Case("smooth-l1, narrow", make("smooth-l1:beta=0.2"), (5,), floats(5)),
    Case("bce-with-logits", make("bce-with-logits"), (3,), floats(3)),
    Case("output", make("output"), (3,), {}, OWN),
    Case("distill", make("distill"), (3,), said((3,))),
    Case("distill, hot pixels", make("distill:temperature=5"), (3, 2, 2), said((3, 2, 2))),
    Case("distill, last axis", Distill(1.5, (Match(2, 0.7),)), (2, 3), said((2, 3))),
    Case("distill, numbers", Distill(matches=(Match(None, 0.5, 4.0),)), (2, 3), said((2, 3))),
    Case("distill, both", Distill(3.0, (Match(1, 2.0), Match(scale=9.0))), (3,), said((3,), (3,)), TWO),
    Case("distill, answers", Distill(matches=(Match(scale=0.5, answers=True),)), (3,), said((3,))),
    Case("task and teacher", HALF, (3,), blended(HALF, {**labels(classes=3, ignored=-100), **said((3,))})),
    Case("only the teacher", HALF, (3,), blended(HALF, {"y": np.full(N, -100), **said((3,))})),
    Case("two of them", QUARTER, (3,), blended(QUARTER, {**floats(3), **said((3,), (3,))}), TWO),
    Case("two outputs", Both(), (3,), floats(3), TWO),
    Case("teacher", Distilled(), (3,), {"teacher": floats(3)["y"] * 5}),
]
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def step(case: Case, shards: int) -> tuple[float, Array, Array]:
    """Return loss, gradient of w, and w's own memory, of one step."""
    session = prepare(
        case.model(), TrainingSpec(("w",), case.loss, batch=N, shards=shards), choose_backend()
    ).build()
    try:
        loss = session.step({"x": case.x}, case.targets)
        return loss, session.grads.reshape(case.shape).astype(np.float64).copy(), session.params
    finally:
        session.close()


def test_every_loss_has_a_case() -> None:
    assert set(LOSSES) <= {case.loss.name for case in CASES}
    assert all(LOSSES[name]().name == name and LOSSES[name]().text for name in LOSSES)


@EACH
@pytest.mark.parametrize("shards", [1, 3])
def test_graph_and_numpy_are_one_function(case: Case, shards: int) -> None:
    """Loss and gradient in ONNX Runtime against the numpy value and its central differences in float64."""
    loss, gradient, _ = step(case, shards)
    assert loss == pytest.approx(case.value(case.w), rel=TOLERANCE, abs=1e-7)
    expected = np.zeros(case.shape)
    for place in np.ndindex(*case.shape):
        up, down = case.w.copy(), case.w.copy()
        up[place] += STEP
        down[place] -= STEP
        expected[place] = (case.value(up) - case.value(down)) / (2 * STEP)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=TOLERANCE * max(1.0, np.abs(expected).max()))


@EACH
def test_what_counts_is_what_is_judged(case: Case) -> None:
    z = case.x.astype(np.float64)
    outputs = [z] * case.loss.outputs if case.text != OWN else [np.float64(3.0)]
    weights = case.loss.judge(outputs, case.targets, N).weights
    assert case.loss.count(case.targets, N) == weights.sum()
    parts = (slice(0, 2), slice(2, N))
    rows = [({k: t[part] for k, t in case.targets.items()}, part.stop - part.start) for part in parts]
    assert sum(case.loss.count(targets, size) for targets, size in rows) == weights.sum()


def with_targets(case: Case) -> bool:
    return bool(case.targets) and case.id in (*LOSSES, "two outputs", "teacher")


@pytest.mark.parametrize("case", [case for case in CASES if with_targets(case)], ids=lambda case: case.id)
def test_wrong_targets_are_refused(case: Case) -> None:
    session = prepare(case.model(), TrainingSpec(("w",), case.loss, batch=N), choose_backend()).build()
    ((name, good),) = case.targets.items()
    wrong = {
        "shape": (good[:, None], rf"{name} has shape \[6, 1.*, the loss reads \[6"),
        "length": (good[:-1], rf"{name} has shape \[5"),
        "nothing": (None, f"the target '{name}' is NoneType"),
        "text": (good.astype(str), rf"{name} is <U\d+, the loss reads"),
    }
    if good.dtype.kind == "i":
        wrong["classes"] = (
            good + 3,
            rf"{name}\[\d\] is \d: labels must lie in 0 to 2, the model has 3 classes",
        )
        wrong["dtype"] = (good.astype(np.float32), f"{name} is float32, the loss reads integer labels")
    else:
        wrong["dtype"] = (good.astype(np.int64), f"{name} is int64, the loss reads float32")
        wrong["nan"] = (np.full_like(good, np.nan), rf"{name}\[0\] holds nan")
    if np.isfinite(case.loss.targets([(N, *case.shape)] * case.loss.outputs)[name].high):
        wrong["bounds"] = (good + 1, rf"{name}\[0\] is 1\.\d+: targets lie in 0 to 1")
    for target, message in wrong.values():
        with pytest.raises(DataError, match=message):
            session.step({"x": case.x}, {name: target})
    session.close()
