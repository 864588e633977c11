"""Metrics of how often each class was right, predicted and meant: mean IoU and F1. Three counts per class are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnx_oto.losses import Judged, Kind
from onnx_oto.metrics.metric import Array, Better, Floats, answers, compared, is_binary

Measure = Callable[[Floats, Floats], Floats]
"""(right, predicted + meant) per class, both above nothing -> the measure per class."""


def iou(right: Floats, mentioned: Floats) -> Floats:
    """Return intersection over union: r / (p + m - r)."""
    return right / (mentioned - right)


def f1(right: Floats, mentioned: Floats) -> Floats:
    """Return the harmonic mean of precision and recall: 2 r / (p + m)."""
    return 2 * right / mentioned


@dataclass(frozen=True)
class MeanIou:
    """A metric (see `Metric`): intersection over union, averaged over the classes that are predicted or meant."""

    name: ClassVar[str] = "mean-iou"
    text: ClassVar[str] = "intersection over union, mean over the classes that occur"
    better: ClassVar[Better] = "higher"
    point: ClassVar[float | None] = 0.01
    compares: ClassVar[tuple[Kind, ...]] = ("classes",)

    def start(self) -> CountTally:
        """Return an empty tally."""
        return CountTally(iou)


@dataclass(frozen=True)
class F1:
    """A metric (see `Metric`): F1, averaged over the classes that are predicted or meant.

    For logits of yes-or-no questions [n, Q, ...] every one of the Q is such a class, and a target of at least 0.5 a
    yes; for [n] and [n, 1] that is the F1 of one question.
    """

    name: ClassVar[str] = "f1"
    text: ClassVar[str] = "F1, mean over the classes (or yes-or-no questions) that occur"
    better: ClassVar[Better] = "higher"
    point: ClassVar[float | None] = 0.01
    compares: ClassVar[tuple[Kind, ...]] = ("classes", "binary")

    def start(self) -> CountTally:
        """Return an empty tally."""
        return CountTally(f1)


class CountTally:
    """right, predicted, meant: how often each class was, int64 [K]."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.right = self.predicted = self.meant = np.zeros(0, np.int64)

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        self._take(_questions(*answers(batch)) if is_binary(batch) else _classes(*compared(batch)))

    def join(self, other: CountTally) -> None:
        """See `Tally.join`."""
        if other.right.size:
            self._take((other.right, other.predicted, other.meant))

    def _take(self, found: tuple[Array, Array, Array]) -> None:
        if self.right.size == 0:
            self.right, self.predicted, self.meant = found
        else:
            self.right, self.predicted, self.meant = (
                old + new for old, new in zip((self.right, self.predicted, self.meant), found, strict=True)
            )

    @property
    def value(self) -> float:
        """The mean over the classes that occur; 0 where none does, nan without a batch."""
        if self.right.size == 0:
            return float("nan")
        mentioned = (self.predicted + self.meant).astype(np.float64)
        occurs = mentioned > 0
        if not occurs.any():
            return 0.0
        return float(self.measure(self.right[occurs].astype(np.float64), mentioned[occurs]).mean())


def _classes(scores: Array, labels: Array) -> tuple[Array, Array, Array]:
    """Return the counts for scores [M, K] and labels [M]."""
    size, best = scores.shape[1], scores.argmax(axis=1)
    right, predicted, meant = (np.bincount(x, minlength=size) for x in (labels[best == labels], best, labels))
    return right, predicted, meant


def _questions(said: Array, meant: Array) -> tuple[Array, Array, Array]:
    """Return the counts of "yes" for answers [n], or [n, Q, ...]."""
    wide = (len(said), said.shape[1] if said.ndim > 1 else 1, -1)
    said, meant = said.reshape(wide), meant.reshape(wide)
    right, predicted, true = (x.sum(axis=(0, 2)) for x in (said & meant, said, meant))
    return right, predicted, true
