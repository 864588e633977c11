"""Metrics of numbers against numbers: MAE, R² and the relative error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnx_oto.losses import Judged, Kind
from onnx_oto.metrics.metric import NUMBERS, Better, Floats, compared, ratio


@dataclass(frozen=True)
class Mae:
    """A metric (see `Metric`): the mean of |prediction - target| over all elements."""

    name: ClassVar[str] = "mae"
    text: ClassVar[str] = "mean absolute error"
    better: ClassVar[Better] = "lower"
    point: ClassVar[float | None] = None
    compares: ClassVar[tuple[Kind, ...]] = NUMBERS

    def start(self) -> MaeTally:
        """Return an empty tally."""
        return MaeTally()


class MaeTally:
    """The sum of |prediction - target|, and how many there were."""

    def __init__(self) -> None:
        self.total = 0.0
        self.counted = 0

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        prediction, target = compared(batch)
        self.total += float(np.abs(prediction - target).sum())
        self.counted += target.size

    def join(self, other: MaeTally) -> None:
        """See `Tally.join`."""
        self.total += other.total
        self.counted += other.counted

    @property
    def value(self) -> float:
        """The mean."""
        return ratio(self.total, self.counted)


@dataclass(frozen=True)
class RelativeError:
    """A metric (see `Metric`): sum |prediction - target| / sum |target| over all elements."""

    name: ClassVar[str] = "relative-error"
    text: ClassVar[str] = "sum of absolute errors, of the sum of what should be there"
    better: ClassVar[Better] = "lower"
    point: ClassVar[float | None] = 0.01
    compares: ClassVar[tuple[Kind, ...]] = NUMBERS

    def start(self) -> RelativeErrorTally:
        """Return an empty tally."""
        return RelativeErrorTally()


class RelativeErrorTally:
    """Both sums, and of how many elements they are."""

    def __init__(self) -> None:
        self.seen = 0
        self.off = 0.0
        self.whole = 0.0

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        prediction, target = compared(batch)
        self.seen += target.size
        self.off += float(np.abs(prediction - target).sum())
        self.whole += float(np.abs(target).sum())

    def join(self, other: RelativeErrorTally) -> None:
        """See `Tally.join`."""
        self.seen += other.seen
        self.off += other.off
        self.whole += other.whole

    @property
    def value(self) -> float:
        """The quotient; infinite where something is there that should be 0 everywhere."""
        if self.seen and not self.whole:
            return float("inf") if self.off else 0.0
        return ratio(self.off, self.whole)


@dataclass(frozen=True)
class R2:
    """A metric (see `Metric`): 1 - sum (t - p)^2 / sum (t - mean t)^2 per number of a sample, averaged over them.

    A number that is the same in every target counts as 1 where it is met exactly, else as 0 (as in scikit-learn).
    """

    name: ClassVar[str] = "r2"
    text: ClassVar[str] = "coefficient of determination, mean over the numbers of a sample"
    better: ClassVar[Better] = "higher"
    point: ClassVar[float | None] = 0.01
    compares: ClassVar[tuple[Kind, ...]] = NUMBERS

    def start(self) -> R2Tally:
        """Return an empty tally."""
        return R2Tally()


class R2Tally:
    """Mean and sum of squares of the targets around it, and the squared errors, per number of a sample.

    Two parts are joined by the formula of Chan, Golub and LeVeque (1979), which does not cancel.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Floats = np.zeros(0)
        self.spread: Floats = np.zeros(0)
        self.error: Floats = np.zeros(0)

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        prediction, target = (array.reshape(len(array), -1) for array in compared(batch))
        mean = target.mean(axis=0)
        spread, error = ((target - mean) ** 2).sum(axis=0), ((target - prediction) ** 2).sum(axis=0)
        self._take(len(target), mean, spread, error)

    def join(self, other: R2Tally) -> None:
        """See `Tally.join`."""
        if other.count:
            self._take(other.count, other.mean, other.spread, other.error)

    def _take(self, new: int, mean: Floats, spread: Floats, error: Floats) -> None:
        if not self.count:
            self.mean, self.spread, self.error = (np.zeros(len(mean)) for _ in range(3))
        shift, total = mean - self.mean, self.count + new
        self.spread = self.spread + spread + shift**2 * (self.count * new / total)
        self.mean = self.mean + shift * (new / total)
        self.error = self.error + error
        self.count = total

    @property
    def value(self) -> float:
        """R², nan for fewer than two samples."""
        if self.count < 2:
            return float("nan")
        constant = self.spread == 0
        share = self.error / np.where(constant, 1.0, self.spread)
        return float(np.where(constant, self.error == 0, 1.0 - share).mean())
