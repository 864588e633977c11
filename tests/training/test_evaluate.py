"""Scores against values computed by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from onnx_oto.data import Examples, fit
from onnx_oto.errors import DataError
from onnx_oto.training import Score, evaluate


def examples(outputs: np.ndarray, target: np.ndarray | None) -> Examples:
    """Return examples whose input is what the model shall answer."""
    return Examples({"x": fit(outputs.astype(np.float32), outputs.shape[1:], np.float32)[0]}, target)


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


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("mse", (1 + 0 + 4 + 0) / 4),
        ("l1", (1 + 0 + 2 + 0) / 4),
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


def test_bce_does_not_overflow() -> None:
    score = evaluate(
        answer, examples(np.array([[-1e5], [1e5]]), np.array([[0.0], [1.0]], np.float32)), "bce-with-logits"
    )
    assert score.loss == 0.0


@pytest.mark.parametrize("loss", ["mse", "cross-entropy"])
def test_shapes_that_do_not_fit_are_named(loss: str) -> None:
    with pytest.raises(DataError, match=r"output \[2, 3\] and target \[2, 4\]"):
        evaluate(answer, examples(np.zeros((2, 3)), np.zeros((2, 4), np.int64)), loss)
