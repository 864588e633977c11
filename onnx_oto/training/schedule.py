"""Learning rates as pure functions of the step, all with a linear warm-up.

In step t (from 0) of the warm-up the rate is base * (t+1) / warm_up; after it, with p = (t - warm_up) /
(total - warm_up):

    constant    base
    step        base * factor^(number of milestones <= p)
    cosine      last + (base - last) * (1 + cos(pi p)) / 2
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnx_oto.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step of a run of `total` steps, `warm_up` of them rising."""

    shape: str
    base: float
    total: int
    warm_up: int = 0
    milestones: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1
    last: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UsageError(f"schedule {self.shape!r}: choose one of {', '.join(SHAPES)}")
        if not (math.isfinite(self.base) and self.base > 0):
            raise UsageError(f"learning rate {self.base}: give a positive number")
        if not 0 <= self.warm_up <= self.total:
            raise UsageError(f"warm-up of {self.warm_up} steps: the run has {self.total}")

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step counted from 0; beyond the run that of the end."""
        if step < self.warm_up:
            return self.base * (step + 1) / self.warm_up
        rest = self.total - self.warm_up
        share = min(1.0, (step - self.warm_up) / rest) if rest else 1.0
        return SHAPES[self.shape](self, share)


def _constant(schedule: Schedule, share: float) -> float:
    return schedule.base


def _step(schedule: Schedule, share: float) -> float:
    passed = sum(milestone <= share for milestone in schedule.milestones)
    return float(schedule.base * schedule.factor**passed)


def _cosine(schedule: Schedule, share: float) -> float:
    return schedule.last + (schedule.base - schedule.last) * (1 + math.cos(math.pi * share)) / 2


SHAPES: dict[str, Callable[[Schedule, float], float]] = {
    "constant": _constant,
    "step": _step,
    "cosine": _cosine,
}
