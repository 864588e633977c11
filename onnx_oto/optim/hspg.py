"""HSPG: half-space stochastic projected gradient, in two stages, with an exact finish.

Source: Chen et al., OTO, NeurIPS 2021 (arXiv 2107.07467), algorithm 2. The penalty is the mixed l1/l2 norm, lambda
times the sum of ||x|| over all groups x. With v the base direction, a the learning rate:

- Stage 1, the observe phase: every group takes subgradient steps, x <- x - a (v + lambda x/||x||).
- Stage 2, the shrink phase: the same trial step, and a group becomes zero, for good, when it leaves its half-space:
  <x~, x> < eps ||x||^2.

What is not as published:

- There lambda alone decides how many groups become zero, and which. Here `select` chooses them between the stages, by
  what the penalty has made of the groups until then, and only these are projected. The penalty is on all groups in both
  stages all the same, which tells HSPG from DHSPG.
- What the half-space has not taken at the end of stage 2 is scaled to zero until the deadline, as in `dhspg`; from the
  finish on nothing else is penalised.
- A group that is not chosen loses at most half of itself in one step to the penalty, so that it never turns around,
  and nothing of what does not train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.base import Optimizer, Task
from onnx_oto.optim.half_space import (
    HALF_SPACE_EPS,
    REGULARIZER,
    pull_and_project,
    pulled,
    require_half_space,
    require_regularizer,
)
from onnx_oto.optim.leaving import Leaving
from onnx_oto.optim.plan import (
    FINISH,
    PLAN_FINISH,
    PLAN_OBSERVE,
    PLAN_SHRINK,
    SHRINK,
    Plan,
    require_shares,
)
from onnx_oto.optim.saliency import SALIENCIES, SALIENCY, Average, require_saliency
from onnx_oto.optim.sparsifier import Planned
from onnx_oto.optim.stated import option
from onnx_oto.optim.stepper import Stepper

Array = npt.NDArray[Any]

LAMBDA = 1e-3
STAGE = 0.1
"""Share of the steps of stage 1: long enough for the penalty to be seen in the norms."""
MOST = 0.5


class Hspg(Planned):
    """The optimizer; see the module. Parameters outside all groups take plain steps, from the finish on all others."""

    def __init__(
        self,
        task: Task,
        plan: Plan,
        *,
        regularizer: float = LAMBDA,
        eps: float = 0.0,
        saliency: str = "magnitude",
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._stepper = Stepper(task.direction, task.size, dtype=dtype, decayed=task.decayed)
        self._groups = task.groups
        self._moving = task.groups.outside(task.still)
        self._leaving = Leaving(task.groups, task.select, self._stepper, preset=task.preset, still=task.still)
        self._plan = plan
        self._regularizer = regularizer
        self._eps = eps
        self._saliency: Average = Average(SALIENCIES[saliency], task.groups)

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        step, plan, leaving = self._stepper.taken, self._plan, self._leaving
        if plan.observe // 2 <= step <= plan.partition:
            self._saliency.add(params, grads)
        if step == plan.partition:
            leaving.choose(self._saliency.scores())
        leaving.hold(params, grads)
        phase = plan.phase(step)
        if phase == "done":
            self._stepper.plain(params, grads, lr)
            return
        self._stepper.turn(params, grads)
        if phase == "finish":
            leaving.fade(params, grads, plan.deadline - step)
        else:
            self._penalise(params, grads, lr)
        self._stepper.descend(params, grads, lr)

    def _penalise(self, params: Array, v: Array, lr: float) -> None:
        """Scale every group, and project the chosen ones, so that params - lr * v becomes the trial step or zero."""
        leaving = self._leaving
        moments = self._groups.moments(params, v)
        norm = np.sqrt(moments.xx)
        distance = np.full_like(norm, lr * self._regularizer)
        staying = ~leaving.alive & (norm > 0)
        factor = pull_and_project(leaving, params, v, lr, moments=moments, distance=distance, eps=self._eps)
        leaving.index.scale(params, factor)
        self._moving.scale(params, pulled(norm, np.minimum(distance, MOST * norm), staying))


@dataclass(frozen=True)
class HspgOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    saliency: str = option("magnitude", SALIENCY, choices=tuple(SALIENCIES))
    regularizer: float | None = option(None, REGULARIZER)
    half_space_eps: float = option(0.0, HALF_SPACE_EPS)
    plan_observe: float = option(STAGE, PLAN_OBSERVE)
    plan_shrink: float = option(SHRINK, PLAN_SHRINK)
    plan_finish: float = option(FINISH, PLAN_FINISH)

    def __post_init__(self) -> None:
        require_saliency(self.saliency)
        require_regularizer(self.regularizer)
        require_half_space(self.half_space_eps)
        require_shares(self.plan_observe, self.plan_shrink, self.plan_finish)

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        plan = Plan.of(
            task.steps, observe=self.plan_observe, shrink=self.plan_shrink, finish=self.plan_finish
        )
        return Hspg(
            task,
            plan,
            regularizer=LAMBDA if self.regularizer is None else self.regularizer,
            eps=self.half_space_eps,
            saliency=self.saliency,
        )
