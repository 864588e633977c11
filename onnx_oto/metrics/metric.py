"""What a metric is: a name, which way is better, and a tally that is fed batch by batch and holds no predictions."""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.losses import Judged, Kind

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Better = Literal["higher", "lower"]

ANY: tuple[Kind, ...] = ("classes", "binary", "values", "nothing", "teacher-classes", "teacher-values")
NUMBERS: tuple[Kind, ...] = ("values", "teacher-values")


class Tally(Protocol):
    """A metric over the batches added so far. All sums in float64; how samples are split into batches is no matter."""

    def add(self, batch: Judged) -> None:
        """Take one batch. Raises DataError where the metric cannot be computed from it."""

    def join(self, other: Any) -> None:
        """Take what another tally of the same metric was given, as if its batches had been added here now."""

    @property
    def value(self) -> float:
        """The metric; nan when nothing that counts was added."""


class Metric(Protocol):
    """A metric with its options. Immutable; an entry of the registry makes one from its options."""

    @property
    def name(self) -> str:
        """The name in reports."""

    @property
    def text(self) -> str:
        """One line of help."""

    @property
    def better(self) -> Better:
        """Whether a higher or a lower value is the better one."""

    @property
    def point(self) -> float | None:
        """What people call a point of it: a hundredth of a share, a decibel. None: a hundredth of its value."""

    @property
    def compares(self) -> tuple[Kind, ...]:
        """Which losses it goes with, by what they give metrics to compare (see Judged)."""

    def start(self) -> Tally:
        """Return an empty tally."""


def ratio(part: float, whole: float) -> float:
    """Return part / whole, nan where nothing was counted."""
    return part / whole if whole else float("nan")


def compared(batch: Judged) -> tuple[Array, Array]:
    """Return prediction and target of a batch that has them."""
    assert batch.prediction is not None
    assert batch.target is not None
    return batch.prediction, batch.target


def answers(batch: Judged) -> tuple[Array, Array]:
    """Return to which questions a batch of kind "binary" says yes, and to which it should: bool [n, ...] each."""
    logits, target = compared(batch)
    return logits > 0, target >= 0.5


def is_binary(batch: Judged) -> bool:
    """Say whether a batch answers yes-or-no questions, rather than naming classes."""
    return compared(batch)[1].dtype.kind == "f"
