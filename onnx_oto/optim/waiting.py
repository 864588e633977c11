"""Waiting for the loss to begin to fall before groups are chosen.

A deep network without norms may stay for hundreds of steps where it began, and then learn at once. What scores say of
groups there is noise, and half of its channels take so much of the signal with them that it never leaves. So the second
half of the observe phase is repeated until the loss has begun to fall, or all steps that may be waited are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.plan import Plan

Array = npt.NDArray[Any]

PLAN_WAIT = "Largest share of steps by which choosing groups is put off while the loss has not begun to fall; 0 never."
FEWEST = 16
"""Steps in each half of the observe phase without which losses say too little."""
FIRST = 20
"""Steps at the beginning whose losses are compared with, at most."""
FALL = 0.03
"""Share of the first loss that it must have fallen by."""


class Waiting:
    """The clock of a plan: steps that were taken, but for those that were waited before the partition.

    most: steps that may be waited.
    """

    def __init__(self, plan: Plan, most: int = 0) -> None:
        self._again = plan.observe // 2
        self._partition = plan.partition
        self._most = most if self._again >= FEWEST else 0
        self._waited = 0
        self._first, self._latest = _Mean(), _Mean()

    def clock(self, taken: int) -> int:
        """Return which step of the plan comes next, after so many that were taken."""
        return taken - self._waited

    def hear(self, loss: float, taken: int) -> bool:
        """Take note of the loss of the step that comes next; return whether observing is repeated from it on."""
        if not self._most:
            return False
        step, span = self.clock(taken), self._partition - self._again
        repeats = step == self._partition and not self._is_falling and self._waited + span <= self._most
        if repeats:
            self._waited += span
            self._latest = _Mean()
            step = self._again
        if step < min(FIRST, self._again):
            self._first.add(loss)
        elif self._again <= step < self._partition:
            self._latest.add(loss)
        return repeats

    def state(self) -> dict[str, Array]:
        """Return what the next step depends on."""
        return {
            "waited": np.array(self._waited),
            "losses": np.array([*self._first.parts, *self._latest.parts]),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned."""
        self._waited = int(state["waited"])
        parts = [float(part) for part in state["losses"]]
        self._first, self._latest = _Mean(*parts[:2]), _Mean(*parts[2:])

    @property
    def _is_falling(self) -> bool:
        first = self._first.value
        return self._latest.value < first - FALL * abs(first)


class _Mean:
    def __init__(self, total: float = 0.0, count: float = 0.0) -> None:
        self.parts = (total, count)

    def add(self, value: float) -> None:
        self.parts = (self.parts[0] + value, self.parts[1] + 1)

    @property
    def value(self) -> float:
        return self.parts[0] / max(self.parts[1], 1.0)


def most_waited(plan: Plan, steps: int, wait: float) -> int:
    """Return how many steps may be waited in a run: what comes behind must fit, with a tenth of the run after it.

    >>> most_waited(Plan(50, 300, 50), 1000, 0.25), most_waited(Plan(50, 700, 50), 1000, 0.25)
    (250, 100)
    """
    return max(min(round(steps * wait), steps - plan.deadline - round(0.1 * steps)), 0)
