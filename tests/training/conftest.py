"""A gradient session in plain numpy.

Softmax regression on centred inputs, with running statistics like a BatchNorm.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest

from onnx_oto.data import Dataset, Input, Labels, Table, Tables
from onnx_oto.gradients.spec import Predict
from onnx_oto.optim import GroupIndex, Stretch

FEATURES, HIDDEN, CLASSES = 6, 8, 3


class FakeSession:
    """logits = tanh((x - mean) W1 + b1) W2, W1 [FEATURES, HIDDEN], b1 [HIDDEN], W2 [HIDDEN, CLASSES].

    The mean is the batch's in training and a running one (momentum 0.9) in `predict`. Gradients by hand.
    """

    def __init__(self, seed: int = 0) -> None:
        shapes = {"w1": (FEATURES, HIDDEN), "b1": (HIDDEN,), "w2": (HIDDEN, CLASSES)}
        self.slices: dict[str, tuple[int, tuple[int, ...]]] = {}
        used = 0
        for name, shape in shapes.items():
            self.slices[name] = (used, shape)
            used += int(np.prod(shape))
        self.params = np.random.default_rng(seed).standard_normal(used).astype(np.float32) * np.float32(0.5)
        self.grads = np.zeros(used, np.float32)
        self.statistics = np.zeros(FEATURES, np.float32)
        self.statistic_slices = {"mean": (0, (FEATURES,))}
        self.steps = 0
        self.rows = None

    def view(self, flat: np.ndarray, name: str) -> np.ndarray:
        offset, shape = self.slices[name]
        return flat[offset : offset + int(np.prod(shape))].reshape(shape)

    def step(self, batch: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray]) -> float:
        x, target = batch["x"], targets["y"]
        w1, b1, w2 = (self.view(self.params, name) for name in self.slices)
        with np.errstate(all="ignore"):
            mean = x.mean(axis=0)
            centred = x - mean
            hidden = np.tanh(centred @ w1 + b1)
            logits = hidden @ w2
            shifted = logits - logits.max(axis=1, keepdims=True)
            logp = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            rows = np.arange(len(x))
            error = np.exp(logp)
            error[rows, target] -= 1
            error /= len(x)
            back = (error @ w2.T) * (1 - hidden**2)
            self.view(self.grads, "w2")[:] = hidden.T @ error
            self.view(self.grads, "w1")[:] = centred.T @ back
            self.view(self.grads, "b1")[:] = back.sum(axis=0)
            self.statistics[:] = 0.9 * self.statistics + 0.1 * mean
            self.steps += 1
            return float(-logp[rows, target].mean())

    def predict(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        w1, b1, w2 = (self.view(self.params, name) for name in self.slices)
        return np.asarray(np.tanh((batch["x"] - self.statistics) @ w1 + b1) @ w2)

    def evaluating(self, samples: int) -> AbstractContextManager[Predict]:
        return nullcontext(self.predict)

    def weights(self) -> dict[str, np.ndarray]:
        trained = {name: self.view(self.params, name).copy() for name in self.slices}
        return {**trained, "mean": self.statistics.copy()}

    def close(self) -> None:
        """Nothing runs."""


def groups() -> GroupIndex:
    """Return one group per hidden unit: its column of w1 and its element of b1."""
    units = np.arange(HIDDEN, dtype=np.int32)
    return GroupIndex(
        (Stretch(0, FEATURES, HIDDEN, 1, units), Stretch(FEATURES * HIDDEN, 1, HIDDEN, 1, units)), HIDDEN
    )


def dataset(samples: int = 100, **changes: Any) -> Dataset:
    """Return three blobs of points that a hidden layer separates; train and test are drawn alike."""
    rng = np.random.default_rng(7)
    centres = rng.standard_normal((CLASSES, FEATURES)) * 2

    def table(split: str, count: int) -> Table:
        y = rng.integers(0, CLASSES, count)
        x = (centres[y] + rng.standard_normal((count, FEATURES)) * 0.7).astype(np.float32)
        return Table(split, {"": changes.get("x", x)}, {"y": changes.get("y", y)})

    tables = Tables(table("train", samples), table("test", 60))
    return tables.fit({"x": Input((FEATURES,), np.dtype(np.float32))}, {"y": Labels(classes=CLASSES)})


@pytest.fixture
def make_session() -> type[FakeSession]:
    """Return the session's class: `make_session(seed)`."""
    return FakeSession


@pytest.fixture
def make_dataset() -> Callable[..., Dataset]:
    """Return a function of the number of training samples."""
    return dataset


@pytest.fixture
def hidden_units() -> GroupIndex:
    """Return the groups of the session's hidden units."""
    return groups()
