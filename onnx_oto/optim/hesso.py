"""HESSO: groups go in periods, are chosen anew for each by their scores, and are scaled to zero within it.

Source: Chen et al., 2024 (arXiv 2409.09085), algorithm 1, and the optimizer that Microsoft released with it (MIT
licence). With P periods, at the beginning of period p = 1..P the groups of lowest score are chosen until p/P of all
that is to go goes or has gone. In step t = 0..T-1 of a period of T steps

    x <- (T-t-1)/(T-t) (x - a v)   for groups chosen in it,    x <- x - a v   for all others,

so that they are exactly zero at its end, whatever the gradients are; there is nothing to tune.

What is not as published: scores are averaged over steps in the second half of the time since the last choice
(`plan.is_scored`), not taken from one mini-batch; `select` is asked, so that every number of groups that goes is one
that the model allows; the periods begin at the partition step of the plan and end at its deadline, the last step of
each included. The corrective cycles of HESSO-CRIC are not here.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.base import Optimizer, Task
from onnx_oto.optim.leaving import Leaving
from onnx_oto.optim.plan import (
    OBSERVE,
    PLAN_OBSERVE,
    PLAN_SHRINK,
    ROUNDS,
    Plan,
    is_scored,
    require_rounds,
    require_share,
    require_shares,
)
from onnx_oto.optim.saliency import SALIENCIES, SALIENCY, Average, require_saliency
from onnx_oto.optim.sparsifier import Sparsifier
from onnx_oto.optim.stated import option
from onnx_oto.optim.stepper import Stepper
from onnx_oto.optim.waiting import PLAN_WAIT, Waiting, most_waited

Array = npt.NDArray[Any]

PERIODS = 10
SHARE = 0.35
"""Share of the steps of all periods: as long as `dhspg` takes to the deadline."""


class Hesso(Sparsifier):
    """The optimizer; see the module. Parameters outside all groups, and groups not chosen, take plain steps.

    plan: the partition step and the deadline; what is between is cut into periods, each of at least one step.
    """

    def __init__(
        self,
        task: Task,
        plan: Plan,
        *,
        periods: int = PERIODS,
        saliency: str = "mixed",
        wait: int = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._stepper = Stepper(task.direction, task.size, dtype=dtype, decayed=task.decayed)
        self._groups = task.groups
        self._leaving = Leaving(task.groups, task.select, self._stepper, preset=task.preset, still=task.still)
        self._plan = plan
        self._waiting = Waiting(plan, wait)
        self._starts = plan.rounds(periods, plan.deadline)
        self._saliency: Average = Average(SALIENCIES[saliency], task.groups)

    @property
    def phase(self) -> str:
        """What the next step will do: "observe", "shrink" or "done"."""
        phase = self._plan.phase(self._clock)
        return "shrink" if phase == "finish" else phase

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        step, leaving = self._clock, self._leaving
        if is_scored(step, self._starts):
            self._saliency.add(params, grads)
        if step in self._starts:
            self._choose(self._starts.index(step) + 1)
        leaving.hold(params, grads)
        self._stepper.plain(params, grads, lr)
        alive = leaving.alive
        if not alive.any():
            return
        following = bisect_right(self._starts, step)
        end = self._starts[following] if following < len(self._starts) else self._plan.deadline
        if step + 1 == end:
            leaving.kill(alive, params)
        else:
            leaving.index.scale(params, np.where(alive, (end - step - 1) / (end - step), 1.0))

    def _choose(self, period: int) -> None:
        """Choose what goes in a period, counted from 1, by what was scored; scoring begins anew."""
        self._leaving.choose(self._saliency.scores(), period / len(self._starts))
        self._saliency.begin()


@dataclass(frozen=True)
class HessoOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    saliency: str = option("mixed", SALIENCY, choices=tuple(SALIENCIES))
    rounds: int = option(PERIODS, ROUNDS)
    plan_observe: float = option(OBSERVE, PLAN_OBSERVE)
    plan_shrink: float = option(SHARE, PLAN_SHRINK)
    plan_wait: float = option(0.0, PLAN_WAIT)

    def __post_init__(self) -> None:
        require_saliency(self.saliency)
        require_rounds(self.rounds)
        require_shares(self.plan_observe, self.plan_shrink, 0.0)
        require_share("plan-wait", self.plan_wait)

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        plan = Plan.of(task.steps, observe=self.plan_observe, shrink=self.plan_shrink, finish=0.0)
        wait = most_waited(plan, task.steps, self.plan_wait)
        return Hesso(task, plan, periods=self.rounds, saliency=self.saliency, wait=wait)
