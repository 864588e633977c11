"""DHSPG: dual half-space projected gradient with an exact finish.

Source: Chen et al., OTOv2, ICLR 2023 (arXiv 2303.06862), algorithm 2. With x a group, v the base direction,
a the learning rate, a penalised group takes the trial step

    x~ = x - a (v + lambda x/||x||),

and becomes zero, for good, when it left its half-space: <x~, x> < eps ||x||^2. All other parameters take
x - a v. Where <x, v> >= 0 any lambda > 0 descends both ||x|| and f. Otherwise lambda must lie between

    low = -<x, v> / ||x||  (or ||x|| grows)    and    high = -||v||^2 ||x|| / <x, v>  (or f does not descend).

What differs from the published method, and why:

- The choice of lambda. We fix the distance a * lambda by which a group shrinks per step, not lambda, so
  that a decaying learning rate does not stall the shrinking. By default it is the norm at the partition
  step divided by the number of shrink steps: every group arrives in time, small or large. Where <x, v> < 0,
  lambda = low + min(that, 0.9 (high - low)): the shrinking that is left after the gradient's push is the
  same, and the bound on the descent of f is kept.
- The saliency is averaged over steps in the second half of the time since the last choice (`plan.is_scored`), not
  taken from one mini-batch.
- Exactly the groups that `select` returned are penalised and nothing else is ever projected, so the target
  cannot be overshot. What the shrinking did not finish is scaled by (T-t-1)/(T-t) in step t up to the
  deadline T (as HESSO does): norms fall linearly, there is no late cut, and the target is met at a step
  that is known in advance.
- A dead group is dead for momentum, Adam's moments and weight decay as well.
- With `rounds` above 1 groups go in as many equal parts of the shrink phase, as HESSO lets them (Chen et al., 2024,
  arXiv 2409.09085): in part r of R the groups of lowest score are chosen until r/R of all that is to go goes or has
  gone, by what was seen since the last time, and each shrinks at a pace that ends with the part. One that is not
  chosen again and not zero yet stays and trains on from where it is (after CHEX, Hou et al., CVPR 2022, arXiv
  2203.15794, where groups that went come back with the values they had); not if a part of it does not train.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.base import Bools, Floats, Optimizer, Select, State, Task
from onnx_oto.optim.directions import Direction
from onnx_oto.optim.groups import GroupIndex, Moments
from onnx_oto.optim.half_space import (
    HALF_SPACE_EPS,
    REGULARIZER,
    pull_and_project,
    require_half_space,
    require_regularizer,
)
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
    is_scored,
    require_rounds,
    require_share,
    require_shares,
)
from onnx_oto.optim.saliency import SALIENCIES, SALIENCY, Average, require_saliency
from onnx_oto.optim.sparsifier import Planned
from onnx_oto.optim.stated import option
from onnx_oto.optim.stepper import Stepper
from onnx_oto.optim.waiting import PLAN_WAIT, Waiting, most_waited

Array = npt.NDArray[Any]

# Of the interval (low, high) this much at most, so that f keeps descending.
DESCENT_SHARE = 0.9

PARTS = 10
"""Parts in which groups go. Against all at once, on validation images, three seeds each: `docs/study.md`."""
LEAST_PART = 16
"""Steps of a part at the least: what goes in a few steps goes all at once, and a short run has fewer parts."""


class Dhspg(Planned):
    """The optimizer; see the module. Parameters outside all groups, and groups not chosen, take plain steps.

    size: number P of parameters in the flat buffers. groups: K groups. select: asked at the partition step for the
    first of `rounds` parts of what goes, and at rounds - 1 further steps of the shrink phase. decayed: stretches of
    the buffers that weight decay is for, None = all. preset, still: see `Task`. regularizer: lambda at the partition
    step, None for the pace that meets the end of a part. eps: of the half-space, in [0, 1). wait: steps by which
    choosing may be put off (see `waiting`).
    """

    def __init__(
        self,
        direction: Direction,
        size: int,
        groups: GroupIndex,
        select: Select,
        plan: Plan,
        *,
        saliency: str = "paper",
        regularizer: float | None = None,
        eps: float = 0.0,
        rounds: int = 1,
        wait: int = 0,
        decayed: Iterable[slice] | None = None,
        preset: Bools | None = None,
        still: Sequence[slice] = (),
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        require_saliency(saliency)
        require_regularizer(regularizer)
        require_half_space(eps)
        require_rounds(rounds)
        self._stepper = Stepper(direction, size, dtype=dtype, decayed=decayed)
        self._groups = groups
        self._leaving = Leaving(groups, select, self._stepper, preset=preset, still=still)
        self._plan = plan
        self._waiting = Waiting(plan, wait)
        self._rounds = plan.rounds(rounds, plan.fade)
        self._regularizer = regularizer
        self._eps = eps
        self._saliency: Average = Average(SALIENCIES[saliency], groups)
        self._pace = np.zeros(groups.count)

    @property
    def dead(self) -> Bools:
        """Copy of the mask of zeroed groups: bool [K]."""
        return self._leaving.dead.copy()

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        step, plan = self._clock, self._plan
        if is_scored(step, self._rounds):
            self._saliency.add(params, grads)
        if step in self._rounds:
            self._partition(params, lr, self._rounds.index(step))
        self._leaving.hold(params, grads)
        phase = plan.phase(step)
        if phase not in ("shrink", "finish"):
            self._stepper.plain(params, grads, lr)
            return
        if phase == "shrink":
            self._shrink(params, grads, lr)
            return
        self._stepper.turn(params, grads)
        self._leaving.fade(params, grads, plan.deadline - step)
        self._stepper.descend(params, grads, lr)

    def _own(self) -> State:
        return {"pace": self._pace.copy()}

    def _take(self, own: Mapping[str, Array]) -> None:
        self._pace = np.array(own["pace"], np.float64)

    def _partition(self, params: Array, lr: float, number: int) -> None:
        """Choose the groups that go in a part, counted from 0, and how far each shrinks in each step of it."""
        scores, before = self._saliency.scores(), self._leaving.alive
        self._leaving.choose(scores, (number + 1) / len(self._rounds))
        self._saliency.begin()
        starts = (*self._rounds, self._plan.fade)
        steps = starts[number + 1] - starts[number]
        if self._regularizer is not None:
            self._pace[:] = self._regularizer * lr
        elif steps:
            # Half a step early: a group that arrives exactly at the end would be decided by rounding.
            pace = np.sqrt(self._leaving.index.square_norms(params)) / (steps - 0.5)
            self._pace = np.where(before, self._pace, pace)

    def _shrink(self, params: Array, grads: Array, lr: float) -> None:
        """Take the trial step with the penalised groups, or make them zero, and a plain step with the rest."""
        index = self._leaving.index
        moments = self._stepper.turn_apart(params, grads, lr, index)
        distance = shrink_distance(moments, self._pace, lr)
        factor = pull_and_project(
            self._leaving, params, grads, lr, moments=moments, distance=distance, eps=self._eps
        )
        self._stepper.descend_together(params, grads, lr, index, factor)


@dataclass(frozen=True)
class DhspgOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    saliency: str = option("mixed", SALIENCY, choices=tuple(SALIENCIES))
    regularizer: float | None = option(None, REGULARIZER)
    half_space_eps: float = option(0.0, HALF_SPACE_EPS)
    rounds: int = option(PARTS, ROUNDS)
    plan_observe: float = option(OBSERVE, PLAN_OBSERVE)
    plan_shrink: float = option(SHRINK, PLAN_SHRINK)
    plan_finish: float = option(FINISH, PLAN_FINISH)
    plan_wait: float = option(0.0, PLAN_WAIT)

    def __post_init__(self) -> None:
        require_saliency(self.saliency)
        require_regularizer(self.regularizer)
        require_half_space(self.half_space_eps)
        require_rounds(self.rounds)
        require_shares(self.plan_observe, self.plan_shrink, self.plan_finish)
        require_share("plan-wait", self.plan_wait)

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        plan = Plan.of(
            task.steps, observe=self.plan_observe, shrink=self.plan_shrink, finish=self.plan_finish
        )
        return Dhspg(
            task.direction,
            task.size,
            task.groups,
            task.select,
            plan,
            saliency=self.saliency,
            regularizer=self.regularizer,
            eps=self.half_space_eps,
            rounds=min(self.rounds, max(plan.shrink // LEAST_PART, 1)),
            wait=most_waited(plan, task.steps, self.plan_wait),
            decayed=task.decayed,
            preset=task.preset,
            still=task.still,
        )


def shrink_distance(moments: Moments, pace: Floats, lr: float) -> Floats:
    """Return a * lambda per group, float64 [K]: how far the penalty moves x towards zero in one step.

    `moments` of (x, v); `pace` is the wanted a * lambda. Where <x, v> >= 0 it is taken as it is. Elsewhere
    the result is a * low + min(pace, 0.9 a (high - low)) with the bounds of the module's text. (low <= high
    by Cauchy-Schwarz; at low = high, v antiparallel to x, the penalty just cancels the growth.)
    """
    norm = np.sqrt(moments.xx)
    against = (moments.xy < 0) & (norm > 0)
    low = np.divide(-lr * moments.xy, norm, out=np.zeros_like(norm), where=against)
    high = np.divide(-lr * moments.yy * norm, moments.xy, out=np.zeros_like(norm), where=against)
    room = DESCENT_SHARE * np.maximum(high - low, 0.0)
    return np.where(against, low + np.minimum(pace, room), pace)
