"""The loss itself, and the perplexity of class labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnx_oto.losses import Judged, Kind
from onnx_oto.metrics.metric import ANY, Better, compared, ratio


@dataclass(frozen=True)
class LossValue:
    """A metric (see `Metric`): the loss, over all entries that count."""

    name: ClassVar[str] = "loss"
    text: ClassVar[str] = "the loss on the test data"
    better: ClassVar[Better] = "lower"
    point: ClassVar[float | None] = None
    compares: ClassVar[tuple[Kind, ...]] = ANY

    def start(self) -> LossTally:
        """Return an empty tally."""
        return LossTally()


class LossTally:
    """sum(losses * weights) / sum(weights)."""

    def __init__(self) -> None:
        self.total = 0.0
        self.weight = 0.0

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        self.total += float(batch.losses @ batch.weights)
        self.weight += float(batch.weights.sum())

    def join(self, other: LossTally) -> None:
        """See `Tally.join`."""
        self.total += other.total
        self.weight += other.weight

    @property
    def value(self) -> float:
        """The loss."""
        return ratio(self.total, self.weight)


@dataclass(frozen=True)
class Perplexity:
    """A metric (see `Metric`): exp(mean -log softmax(scores)[label]), never with label smoothing."""

    name: ClassVar[str] = "perplexity"
    text: ClassVar[str] = "exp of the mean -log probability of the label"
    better: ClassVar[Better] = "lower"
    point: ClassVar[float | None] = None
    compares: ClassVar[tuple[Kind, ...]] = ("classes",)

    def start(self) -> PerplexityTally:
        """Return an empty tally."""
        return PerplexityTally()


class PerplexityTally:
    """The sum of -log softmax(scores)[label], and how many there were."""

    def __init__(self) -> None:
        self.total = 0.0
        self.counted = 0

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        scores, labels = compared(batch)
        shifted = scores - scores.max(axis=1, keepdims=True)
        picked = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
        self.total += float((np.log(np.exp(shifted).sum(axis=1)) - picked).sum())
        self.counted += len(labels)

    def join(self, other: PerplexityTally) -> None:
        """See `Tally.join`."""
        self.total += other.total
        self.counted += other.counted

    @property
    def value(self) -> float:
        """The perplexity; infinite where it is beyond every float."""
        mean = ratio(self.total, self.counted)
        return math.exp(mean) if mean < 700 else mean * math.inf
