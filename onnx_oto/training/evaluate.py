"""How good predictions are: accuracy for cross-entropy, the loss itself for everything else.

Plain numpy, float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data import Examples, in_order
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
Predict = Callable[[Mapping[str, Array]], Array]
LossValues = Callable[[npt.NDArray[np.float64], Array], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Score:
    """metric: "accuracy" (share of right labels) or "loss"; value: of the metric; loss.

    Mean over the samples.
    """

    metric: str
    value: float
    loss: float
    samples: int


def evaluate(predict: Predict, examples: Examples, loss: str, *, batch: int = 256) -> Score:
    """Return the score of `predict` (a batch by input name -> output [n, ...]) on all examples, in order.

    With loss "output" the prediction is the loss itself and no target is read. Raises DataError when output
    and target do not fit together.
    """
    total, right, counted, samples = 0.0, 0, 0, 0
    for part in in_order(examples, batch):
        output = np.asarray(predict(part.inputs), np.float64)
        samples += len(part.rows)
        if part.target is None or loss == "output":
            total += float(output.mean()) * len(part.rows)
            continue
        values = LOSSES[loss](output, part.target)
        total += float(values.mean()) * len(part.rows)
        if loss == "cross-entropy":
            right += int(np.count_nonzero(output.argmax(axis=1) == part.target))
            counted += part.target.size
    mean = total / samples
    if loss == "cross-entropy":
        return Score("accuracy", right / counted, mean, samples)
    return Score("loss", mean, mean, samples)


def metric_of(loss: str) -> str:
    """Return the name of the metric that `evaluate` reports for a loss."""
    return "accuracy" if loss == "cross-entropy" else "loss"


def _cross_entropy(output: npt.NDArray[np.float64], target: Array) -> npt.NDArray[np.float64]:
    """Return -log softmax(output)[target] over axis 1: output [n, C, ...], target [n, ...]."""
    if output.ndim < 2 or target.shape != (output.shape[0], *output.shape[2:]):
        raise DataError(
            f"output {list(output.shape)} and target {list(target.shape)}: one score per class is needed"
        )
    shifted = output - output.max(axis=1, keepdims=True)
    picked = np.take_along_axis(shifted, np.expand_dims(target, 1), axis=1).squeeze(1)
    losses: npt.NDArray[np.float64] = np.log(np.exp(shifted).sum(axis=1)) - picked
    return losses


def _same_shape(output: npt.NDArray[np.float64], target: Array) -> npt.NDArray[np.float64]:
    if output.shape != target.shape:
        raise DataError(f"output {list(output.shape)} and target {list(target.shape)}: the shapes must agree")
    return output - target


def _mse(output: npt.NDArray[np.float64], target: Array) -> npt.NDArray[np.float64]:
    return _same_shape(output, target) ** 2


def _l1(output: npt.NDArray[np.float64], target: Array) -> npt.NDArray[np.float64]:
    return np.abs(_same_shape(output, target))


def _bce(output: npt.NDArray[np.float64], target: Array) -> npt.NDArray[np.float64]:
    """Return softplus(z) - z y, which is -y log s(z) - (1-y) log(1 - s(z)) without overflow."""
    _same_shape(output, target)
    losses: npt.NDArray[np.float64] = np.logaddexp(0, output) - output * target
    return losses


LOSSES: dict[str, LossValues] = {
    "cross-entropy": _cross_entropy,
    "mse": _mse,
    "l1": _l1,
    "bce-with-logits": _bce,
}
