"""The share of right labels, among the classes with the highest scores, or of right answers to yes-or-no questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnx_oto.losses import Judged, Kind
from onnx_oto.metrics.metric import Array, Better, answers, compared, is_binary, ratio


@dataclass(frozen=True)
class Accuracy:
    """A metric (see `Metric`): labels among the `top` highest scores; of equal scores the first is higher."""

    name: str
    top: int
    text: str
    compares: tuple[Kind, ...] = ("classes",)
    better: ClassVar[Better] = "higher"
    point: ClassVar[float | None] = 0.01

    def start(self) -> AccuracyTally:
        """Return an empty tally."""
        return AccuracyTally(self.top)


class AccuracyTally:
    """Right labels, and all that count."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.right = 0
        self.counted = 0

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        if is_binary(batch):
            said, meant = answers(batch)
            right = said == meant
        else:
            right = hits(*compared(batch), self.top)
        self.right += int(np.count_nonzero(right))
        self.counted += right.size

    def join(self, other: AccuracyTally) -> None:
        """See `Tally.join`."""
        self.right += other.right
        self.counted += other.counted

    @property
    def value(self) -> float:
        """The share of right labels."""
        return ratio(self.right, self.counted)


def hits(scores: Array, labels: Array, top: int) -> Array:
    """Return which labels [M] are among the `top` highest of scores [M, K]; a label whose score is nan never is."""
    if top == 1:
        found: Array = scores.argmax(axis=1) == labels
        return found
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    higher = (scores > own) | ((scores == own) & earlier)
    found = (higher.sum(axis=1) < top) & ~np.isnan(own[:, 0])
    return found
