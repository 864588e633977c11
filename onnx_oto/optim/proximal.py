"""Proximal gradient steps for the group lasso, with a lambda that follows what is left to do. A baseline.

Source: Yuan and Lin, 2006 (the group lasso), with the proximal step of Wen et al., NeurIPS 2016 (arXiv 1608.03665) and
many others. The penalty is lambda times the sum of sqrt(n) ||x|| over all groups x, n their elements. With v the base
direction, a the learning rate, one step is

    x~ = x - a v,    x <- max(0, 1 - a lambda / r) x~,    r = ||x~|| / sqrt(n), the root mean square.

The lasso knows no target: what becomes zero, and when, follows from lambda. So lambda is set anew, and `select` asked
anew, at the beginning of each of several rounds:

- The groups with the smallest r that may go together are chosen, those that are zero already among them; only chosen
  ones become exactly zero, for good. A group may stay after all until it is zero.
- a lambda = (largest r of the chosen ones) / (steps that are left of the shrink phase): they would all arrive in time,
  if the gradient left them alone. All groups feel the same lambda. Those that are not chosen lose at most half of
  themselves to it in the whole shrink phase, so that the penalty cannot end what `select` keeps, and nothing of what
  does not train.
- What is left of the chosen ones at the end of the shrink phase is scaled to zero until the deadline, as in `dhspg`;
  from then on there is no penalty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.base import Optimizer, State, Task
from onnx_oto.optim.leaving import Leaving
from onnx_oto.optim.plan import (
    FINISH,
    OBSERVE,
    PLAN_FINISH,
    PLAN_OBSERVE,
    PLAN_SHRINK,
    ROUNDS,
    SHRINK,
    Plan,
    require_rounds,
    require_shares,
)
from onnx_oto.optim.sparsifier import Planned
from onnx_oto.optim.stated import option
from onnx_oto.optim.stepper import Stepper

Array = npt.NDArray[Any]

TIMES = 20
STAYS = 0.5
"""What the penalty leaves of a group that is not chosen, at least."""


class Proximal(Planned):
    """The optimizer; see the module. Parameters outside all groups take plain steps; behind the shrink phase all do."""

    def __init__(
        self, task: Task, plan: Plan, *, rounds: int = TIMES, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self._stepper = Stepper(task.direction, task.size, dtype=dtype, decayed=task.decayed)
        self._groups = task.groups
        self._moving = task.groups.outside(task.still)
        self._leaving = Leaving(task.groups, task.select, self._stepper, preset=task.preset, still=task.still)
        self._plan = plan
        self._rounds = plan.rounds(rounds, plan.fade)
        self._threshold = 0.0

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        step, plan, leaving = self._stepper.taken, self._plan, self._leaving
        if step in self._rounds:
            self._choose(params, plan.fade - step)
        leaving.hold(params, grads)
        if plan.phase(step) == "finish":
            self._stepper.turn(params, grads)
            leaving.fade(params, grads, plan.deadline - step)
            self._stepper.descend(params, grads, lr)
            return
        self._stepper.plain(params, grads, lr)
        if plan.phase(step) == "shrink":
            self._threshold_groups(params)

    def _own(self) -> State:
        return {"threshold": np.array(self._threshold)}

    def _take(self, own: Mapping[str, Array]) -> None:
        self._threshold = float(own["threshold"])

    def _choose(self, params: Array, left: int) -> None:
        """Choose the groups that may become zero, and a * lambda for the steps that are left for it."""
        root = self._groups.root_mean_squares(params)
        self._leaving.choose(root)
        self._threshold = root[self._leaving.alive].max(initial=0.0) / max(left, 1)

    def _threshold_groups(self, params: Array) -> None:
        """Take the proximal step on params - lr * v."""
        leaving, root = self._leaving, self._groups.root_mean_squares(params)
        leaving.kill(leaving.alive & (root <= self._threshold), params)
        moved = root > 0
        moved &= ~leaving.dead
        factor = np.ones_like(root)
        factor[moved] = 1.0 - self._threshold / root[moved]
        least = STAYS ** (1.0 / self._plan.shrink)
        leaving.index.scale(params, np.where(leaving.alive, factor, 1.0))
        self._moving.scale(params, np.where(leaving.alive, 1.0, np.maximum(factor, least)))


@dataclass(frozen=True)
class ProximalOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    rounds: int = option(TIMES, ROUNDS)
    plan_observe: float = option(OBSERVE, PLAN_OBSERVE)
    plan_shrink: float = option(SHRINK, PLAN_SHRINK)
    plan_finish: float = option(FINISH, PLAN_FINISH)

    def __post_init__(self) -> None:
        require_rounds(self.rounds)
        require_shares(self.plan_observe, self.plan_shrink, self.plan_finish)

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        plan = Plan.of(
            task.steps, observe=self.plan_observe, shrink=self.plan_shrink, finish=self.plan_finish
        )
        return Proximal(task, plan, rounds=self.rounds)
