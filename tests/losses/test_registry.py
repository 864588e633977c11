"""Losses by name and with options, and what they make of a model's outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onnx_oto.errors import DataError, UnsupportedError, UsageError
from onnx_oto.losses import LOSSES, Blend, CrossEntropy, Distill, Loss, Match, make
from onnx_oto.losses.distill import Spread

from .toys import Both


def test_options_in_a_text_or_as_keywords() -> None:
    assert make("cross-entropy:ignore=255,smoothing=0.1") == CrossEntropy(ignore=255, smoothing=0.1)
    assert make("cross-entropy", ignore=7) == make("cross-entropy: ignore = 7")
    assert make("cross-entropy") == CrossEntropy(ignore=-100, smoothing=0.0, class_axis=None)
    assert make(Both()) == Both()


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_loss_made_twice_is_equal(name: str) -> None:
    assert make(name) == make(name)
    assert make(name) == make(name).settle([(8, 5)], {"y": ()})


def test_other_options_make_another_loss() -> None:
    assert make("smooth-l1:beta=2") == make("smooth-l1", beta=2.0)
    assert make("smooth-l1:beta=2") != make("smooth-l1")
    assert make("mse") != make("l1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hinge", "unknown loss 'hinge': choose one of cross-entropy, mse"),
        ("mse:beta=2", "loss 'mse' has no option 'beta': it has none"),
        ("smooth-l1:gamma=2", "loss 'smooth-l1' has no option 'gamma': it has beta"),
        ("smooth-l1:beta", "beta of loss 'smooth-l1' is '': give a number"),
        ("smooth-l1:beta=0", r"beta of smooth-l1 is 0: give a positive number \(0 would be 'l1'\)"),
        ("smooth-l1:beta=nan", "beta of smooth-l1 is nan: give a positive number"),
        ("cross-entropy:ignore=0.5", "ignore of loss 'cross-entropy' is '0.5': give an integer"),
        ("cross-entropy:ignore=1,ignore=2", "ignore of loss 'cross-entropy' is given twice"),
        ("cross-entropy:smoothing=1", "smoothing of cross-entropy is 1: give a share from 0 to below 1"),
        ("distill:temperature=0", "temperature of distill is 0: give a positive number"),
        ("distill:temperature=inf", "temperature of distill is inf: give a positive number"),
        ("cross-entropy:class_axis=0", "class_axis of cross-entropy is 0, the batch"),
    ],
)
def test_unknown_names_and_values(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(text)


@pytest.mark.parametrize(
    ("shape", "labels", "axis"),
    [
        ((8, 10), (), None),
        ((8, 50, 7), (7,), 1),
        ((8, 7, 50), (7,), -1),
        (("N", "L", 50), (7,), -1),
        ((8, 21, "H", "W"), (32, 40), 1),
        (("N", 32, 40, 21), (32, 40), -1),
        ((8, 5, 5), (5,), 1),
        ((8, 21, 32, 32), (32, 32, 1), 1),
        ((8, 7, 50), (7, 1), -1),
        ((8, 7, 50), (9,), 1),
        (None, (7,), None),
    ],
)
def test_the_axis_of_the_classes_is_the_one_that_the_labels_leave(
    shape: Any, labels: tuple[int, ...], axis: int | None
) -> None:
    """Axis 1 where both would do or none does; then the message about the shape speaks of axis 1."""
    settled = CrossEntropy().settle([shape], {"y": labels})
    assert settled.class_axis == axis
    assert settled.settle([(8, 3, 3)], {"y": (3,)}) == settled or axis is None


def test_an_axis_that_was_asked_for_stays() -> None:
    loss = CrossEntropy(class_axis=-1)
    assert loss.settle([(8, 5, 7)], {"y": (7,)}) == loss
    assert loss.targets([(8, 5, 7)])["y"].shape == (8, 5)
    assert loss.targets([(8, 5, 7)])["y"].classes == 7


@pytest.mark.parametrize(
    ("loss", "shape", "message"),
    [
        (make("cross-entropy"), (8,), r"shape \[8\]: cross-entropy needs at least 2 classes on axis 1"),
        (make("cross-entropy"), (8, 1), "use 'bce-with-logits' for one logit per sample"),
        (make("cross-entropy:class_axis=3"), (8, 5, 7), "at least 2 classes on axis 3"),
        (make("output"), (8, 1), r"shape \[8, 1\]: the loss 'output' needs one number per batch"),
    ],
)
def test_outputs_that_do_not_suit(loss: Loss, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        loss.targets([shape])


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "output"])
def test_predictions_that_do_not_fit_the_targets(name: str) -> None:
    loss = make(name)
    (target,) = loss.targets([(2, 3)])
    with pytest.raises(DataError, match=r"output \[2, 3\] and (target|teacher) \[2, 4\]"):
        loss.judge([np.zeros((2, 3))], {target: np.zeros((2, 4), np.int64)}, 2)


def test_a_spread_is_that_of_the_samples_however_they_come() -> None:
    """A number that is another one in every place, but the same for every sample, spreads nothing."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20, 3, 4)) + 2 * np.arange(12).reshape(3, 4) - 11
    spread = Spread()
    for part in np.split(values, [1, 7, 8]):
        spread.add(part.astype(np.float64))
    assert spread.variance == pytest.approx(values.var(axis=0).mean(), rel=1e-9)


@pytest.mark.parametrize(("level", "variance"), [(0.0, 1.0), (3.0, 0.09)])
def test_what_never_varies_is_measured_by_its_level(level: float, variance: float) -> None:
    spread = Spread()
    spread.add(np.full((5, 2), level, np.float32))
    assert spread.variance == pytest.approx(variance)
    assert Spread().variance == 1.0


def test_a_teacher_that_is_met_costs_nothing_and_classes_may_be_of_any_number() -> None:
    loss = Distill(matches=(Match(1), Match(1)))
    outputs = [np.array([[2.0, 1.0]]), np.array([[0.0, -1.0, 5.0]])]
    judged = loss.judge(outputs, {"teacher.0": outputs[0], "teacher.1": outputs[1]}, 1)
    assert judged.losses == 0
    assert judged.prediction is not None
    assert judged.prediction.argmax(axis=1).tolist() == [0, 2]
    assert np.asarray(judged.target).tolist() == [0, 2]


def test_metrics_see_what_is_shown() -> None:
    """A tensor inside counts in the loss, and is no output to judge by."""
    outputs = [np.array([[2.0, 1.0]]), np.array([[5.0, 7.0]])]
    targets = {"teacher.0": outputs[0], "teacher.1": outputs[1] + 1}
    for hidden in (0, 1):
        matches = [Match(1), Match()]
        matches[hidden] = replace(matches[hidden], shown=False)
        loss = Distill(matches=tuple(matches))
        judged = loss.judge(outputs, targets, 1)
        assert judged.losses == 1.0
        assert loss.metric == ("relative-error", "agreement")[hidden]
        np.testing.assert_array_equal(np.asarray(judged.prediction), outputs[1 - hidden])


def test_a_loss_of_whole_batches_has_no_teacher_beside_it() -> None:
    with pytest.raises(UsageError, match=r"the loss 'output' is one number for a batch.*leave --teacher out"):
        Blend(make("output"), Distill(), (0,))


def test_nothing_overflows() -> None:
    """The loss is 0 where the model is right and sure, and large but finite where it is wrong."""
    sure = np.array([[1e5, -1e5]])
    assert make("bce-with-logits").judge([sure], {"y": np.array([[1.0, 0.0]])}, 1).losses == 0
    assert make("cross-entropy").judge([sure], {"y": np.array([0])}, 1).losses == 0
    assert make("distill:temperature=1").judge([sure], {"teacher.0": -sure}, 1).losses == pytest.approx(2e5)
    assert make("cross-entropy").judge([sure], {"y": np.array([1])}, 1).losses == pytest.approx(2e5)
