"""Loss and metrics of one pass, against values computed by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from onnx_oto.data import Column, Examples, fit
from onnx_oto.data.arrangement import Arrangement
from onnx_oto.errors import DataError, UsageError
from onnx_oto.losses import Judged, make
from onnx_oto.training import Score, evaluate


def examples(outputs: np.ndarray, target: np.ndarray | None) -> Examples:
    """Return examples whose input is what the model shall answer."""
    targets = {}
    if target is not None:
        same = Arrangement(tuple(range(target.ndim - 1)), target.shape[1:], "as stored")
        targets["y"] = Column(target, same, target.dtype)
    return Examples({"x": fit(outputs.astype(np.float32), outputs.shape[1:], np.float32)[0]}, targets)


def answer(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    return batch["x"]


def test_accuracy_and_cross_entropy() -> None:
    """Probabilities 1/2, 1/4, 1/4 and so on, two of three right; batches of two, so the last one is short."""
    logits = np.log([[2.0, 1, 1], [1, 2, 1], [2, 1, 1]]) + 5000.0
    score = evaluate(answer, examples(logits, np.array([0, 1, 2])), "cross-entropy", batch=2)
    expected = -(2 * np.log(0.5) + np.log(0.25)) / 3
    assert score == Score("accuracy", pytest.approx(2 / 3), pytest.approx(expected, rel=1e-4), 3)


def test_cross_entropy_per_pixel() -> None:
    logits = np.zeros((2, 3, 4, 5))
    logits[:, 1] = 1.0
    target = np.ones((2, 4, 5), np.int64)
    target[0, 0, 0] = 2
    score = evaluate(answer, examples(logits, target), "cross-entropy")
    assert score.value == pytest.approx(39 / 40)
    right, wrong = -np.log(np.e / (np.e + 2)), -np.log(1 / (np.e + 2))
    assert score.loss == pytest.approx((39 * right + wrong) / 40)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_ignored_labels_count_for_nothing_in_any_batch(batch: int) -> None:
    """One sample has one label left, one has none: the mean is over the six labels that count, not over samples."""
    rng = np.random.default_rng(0)
    logits, target = rng.standard_normal((4, 3, 2)).astype(np.float32), rng.integers(0, 3, (4, 2))
    counted = np.ones((4, 2), bool)
    counted[1] = counted[2, 0] = False
    shifted = logits.astype(np.float64)
    chance = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    picked = np.take_along_axis(chance, target[:, None], axis=1)[:, 0]
    expected = -np.log(picked[counted]).mean()
    right = (logits.argmax(axis=1) == target)[counted].mean()
    ignored = np.where(counted, target, 255)
    score = evaluate(answer, examples(logits, ignored), make("cross-entropy:ignore=255"), batch=batch)
    assert score.loss == pytest.approx(expected)
    assert score.value == pytest.approx(right)
    assert score.samples == 4


def test_nothing_that_counts_is_said() -> None:
    with pytest.raises(DataError, match="every label of the test data is ignored"):
        evaluate(answer, examples(np.zeros((2, 3)), np.array([-100, -100])), "cross-entropy")


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", (1 + 0 + 4 + 0) / 4),
        ("l1", (1 + 0 + 2 + 0) / 4),
        ("smooth-l1", (0.5 + 0 + 1.5 + 0) / 4),
        ("bce-with-logits", np.mean([np.log1p(np.e) - 0, np.log(2), np.log1p(np.exp(-2.0)), np.log(2)])),
        ("output", (1 + 0 + 2 + 0) / 4),
    ],
)
def test_losses(loss: str, expected: float) -> None:
    """Outputs (1, 0), (2, 0) against targets (0, 0), (0, 0), and (0, 0), (1, 0) for bce."""
    target = np.zeros((2, 2), np.float32)
    if loss == "bce-with-logits":
        target[1, 0] = 1.0
    score = evaluate(answer, examples(np.array([[1.0, 0], [2, 0]]), target), loss, batch=1)
    assert score == Score("loss", pytest.approx(expected), pytest.approx(expected), 2)


def test_several_metrics_come_from_one_pass() -> None:
    calls = []

    def counted(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        calls.append(len(batch["x"]))
        return batch["x"]

    logits = np.array([[3.0, 0, 0], [0, 3, 0], [0, 3, 0]])
    score = evaluate(
        counted, examples(logits, np.array([0, 1, 2])), "cross-entropy", ("miou", "top-1", "loss"), batch=2
    )
    assert calls == [2, 1]
    assert (score.metric, score.value) == ("mean-iou", pytest.approx((1 + 0.5 + 0) / 3))
    assert score.further == {"accuracy": pytest.approx(2 / 3), "loss": pytest.approx(score.loss)}
    assert score.better == "higher"


def test_a_target_that_the_data_do_not_hold_is_provided() -> None:
    """The provider sees the inputs of the batch, as a teacher would."""

    class Teacher:
        """The parts of a loss that evaluation asks for."""

        name, metric, compares = "teacher", "loss", "nothing"

        def judge(self, outputs, targets, samples) -> Judged:
            return Judged(np.abs(outputs[0] - targets["teacher"]).mean(axis=1), np.ones(samples))

    data = examples(np.array([[1.0], [2.0], [4.0]]), None)
    score = evaluate(
        answer, data, Teacher(), batch=2, providers=(lambda batch: {"teacher": 3 * batch.inputs["x"]},)
    )
    assert score.loss == pytest.approx(2 * (1 + 2 + 4) / 3)


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_shapes_that_do_not_fit_are_named(loss: str) -> None:
    with pytest.raises(DataError, match=r"output \[2, 3\] and target \[2, 4\]"):
        evaluate(answer, examples(np.zeros((2, 3)), np.zeros((2, 4), np.int64)), loss)


def test_a_metric_that_does_not_suit_is_refused_before_anything_runs() -> None:
    def never(batch: Mapping[str, np.ndarray]) -> np.ndarray:
        raise AssertionError

    with pytest.raises(UsageError, match="metric 'ssim' cannot be computed for the loss 'cross-entropy'"):
        evaluate(never, examples(np.zeros((2, 3)), np.zeros(2, np.int64)), "cross-entropy", ["ssim"])
