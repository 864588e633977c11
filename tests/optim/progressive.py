"""An optimizer of its own, as somebody might add one: groups go in stages, and are chosen anew for each.

One file with two classes, and one entry in `OPTIMIZERS`. Its choice is asked for a share of what is to go, with
what has gone (in the manner of HESSO).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnx_oto.errors import UsageError
from onnx_oto.optim import Optimizer, Task, option
from onnx_oto.optim.base import part, prefixed
from onnx_oto.optim.stepper import Stepper


@dataclass(frozen=True)
class ProgressiveOptions:
    """What the user may set."""

    prunes: ClassVar[bool] = True

    stages: int = option(4, "Into how many stages the drop is cut.")

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise UsageError(f"stages is {self.stages}: give at least 1")

    def build(self, task: Task) -> Optimizer:
        return Progressive(task, self.stages)


class Progressive:
    """Every `steps / (2 * stages)` steps the smallest groups are set to zero, all within half of the run."""

    def __init__(self, task: Task, stages: int) -> None:
        self._task, self._stages = task, stages
        self._every = max(task.steps // (2 * stages), 1)
        self._stepper = Stepper(task.direction, task.size, decayed=task.decayed)
        self._dead = np.zeros(task.groups.count, np.bool_) if task.preset is None else task.preset.copy()
        self._target: int | None = None

    @property
    def phase(self) -> str:
        return "done" if self._stepper.taken >= self._stages * self._every else "shrink"

    @property
    def zeroed(self) -> int:
        return int(np.count_nonzero(self._dead))

    @property
    def target(self) -> int | None:
        return self._target

    def hear(self, loss: float) -> bool:
        return False

    def step(self, params: np.ndarray, grads: np.ndarray, lr: float) -> None:
        if self._stepper.taken == 0:
            self._task.groups.zero(params, self._dead)
        stage, rest = divmod(self._stepper.taken + 1, self._every)
        self._task.groups.zero(grads, self._dead)
        self._stepper.plain(params, grads, lr)
        if rest == 0 and stage <= self._stages:
            scores = self._task.groups.square_norms(params)
            self._dead = self._task.select(scores, stage / self._stages, self._dead)
            self._target = int(np.count_nonzero(self._task.select(scores, gone=self._dead)))
            for array in (params, *self._stepper.slots.values()):
                self._task.groups.zero(array, self._dead)

    def state(self) -> dict[str, Any]:
        target = -1 if self._target is None else self._target
        own = {"dead": self._dead.copy(), "target": np.array(target)}
        return {**prefixed("direction", self._stepper.state()), **prefixed("groups", own)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._stepper.restore(part(state, "direction"))
        own = part(state, "groups")
        self._dead = np.array(own["dead"], np.bool_)
        self._target = None if own["target"] < 0 else int(own["target"])


@dataclass(frozen=True)
class Sign:
    """A direction of its own: v = the sign of the momentum, with decoupled decay (in the manner of Lion)."""

    slots: ClassVar[tuple[str, ...]] = ("mean",)
    rate: ClassVar[float] = 3e-3
    decoupled: ClassVar[bool] = True

    memory: float = option(0.9, "Share that the mean of the gradients keeps.")
    weight_decay: float = option(0.1, "Share of each weight that is added to its gradient or step.")

    def turn(self, x: np.ndarray, g: np.ndarray, slots: Any, step: int, scratch: np.ndarray) -> None:
        (mean,) = slots
        mean *= self.memory
        mean += (1 - self.memory) * g
        np.sign(mean, out=g)
