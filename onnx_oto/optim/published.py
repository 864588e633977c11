"""DHSPG with the lambda, the epsilon and the saliency of the package that was published, and an exact finish.

Source: `only-train-once` 2.0.16 (Microsoft, MIT licence), the optimizer of OTOv2 (Chen et al., ICLR 2023, arXiv
2303.06862), written anew from what it computes; `tools/against_oto` compares the two step by step. With x a group of
n elements, v the base direction, a the learning rate:

- Groups are chosen once, at the partition step, by one mini-batch. The redundancy of a group is
  0.5 c/||c|| + 0.5 r/||r|| with c = cos(x, v) and r = 1 / (||x||/n + 1e-6), both vectors over all groups.
- The pull of a chosen group is lambda, the same in the whole run. Where <x, v> < 0, it is
  min(max(amplify * low, lambda), ceiling * lambda) with low = -<x, v>/||x||. Where that is not below
  high = -||v||^2 ||x|| / <x, v>, it is (low + high) / 2.
- x~ = x - a (v + pull * x / (||x|| + 1e-8)); the group is zero for good if <x~, x> < eps ||x||^2.

What is not as published:

- How many groups go and which of them may go together is for `select` to say; there, the share of the groups in all,
  and a tolerance on top of it that leaves the choice to chance.
- What the penalty has not brought to zero is scaled to zero until the deadline, as in `dhspg`. The published optimizer
  leaves it, and the target is missed.
- Adam's moments start at zero. There they start at the first gradient and its square, and are corrected for the bias
  all the same, which makes the first steps a third as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.optim.base import Floats, Optimizer, Task
from onnx_oto.optim.directions import Direction
from onnx_oto.optim.groups import Moments
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
    SHRINK,
    Plan,
    require_shares,
)
from onnx_oto.optim.sparsifier import Planned
from onnx_oto.optim.stated import option
from onnx_oto.optim.stepper import Stepper

Array = npt.NDArray[Any]

GUARD = 1e-8
THINNESS_GUARD = 1e-6


class Pull(NamedTuple):
    """lambda, by how much its lower bound is exceeded, and how many times lambda it may become."""

    regularizer: float
    amplify: float
    ceiling: float


PLAIN = Pull(1e-3, 2.0, 10.0)
ADAPTIVE = Pull(1e-2, 20.0, 1e3)
"""The package's defaults for SGD, and for directions that divide by the root of a mean square."""


class Published(Planned):
    """The optimizer; see the module. Parameters outside all groups, and groups not chosen, take plain steps."""

    def __init__(
        self,
        task: Task,
        plan: Plan,
        *,
        pull: Pull | None = None,
        eps: float = 0.0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._stepper = Stepper(task.direction, task.size, dtype=dtype, decayed=task.decayed)
        self._groups = task.groups
        self._leaving = Leaving(task.groups, task.select, self._stepper, preset=task.preset, still=task.still)
        self._plan = plan
        self._pull = pull or usual_pull(task.direction)
        self._eps = eps

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        step, plan, leaving = self._stepper.taken, self._plan, self._leaving
        phase = plan.phase(step)
        leaving.hold(params, grads)
        if step != plan.partition and phase not in ("shrink", "finish"):
            self._stepper.plain(params, grads, lr)
            return
        self._stepper.turn(params, grads)
        if step == plan.partition:
            leaving.choose(-redundancy(self._groups.moments(params, grads), self._groups.sizes))
        if phase == "shrink":
            moments = leaving.index.moments(params, grads)
            distance = shrink_distance(moments, self._pull, lr)
            factor = pull_and_project(
                leaving, params, grads, lr, moments=moments, distance=distance, eps=self._eps
            )
            leaving.index.scale(params, factor)
        elif phase == "finish":
            leaving.fade(params, grads, plan.deadline - step)
        self._stepper.descend(params, grads, lr)


@dataclass(frozen=True)
class PublishedOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    regularizer: float | None = option(None, REGULARIZER)
    amplify: float | None = option(
        None, "How many times the pull exceeds what holds the gradient at bay.  [default: 2, adam: 20]"
    )
    ceiling: float | None = option(
        None, "How many times the regularizer the pull is at most.  [default: 10, adam: 1000]"
    )
    half_space_eps: float = option(0.0, HALF_SPACE_EPS)
    plan_observe: float = option(OBSERVE, PLAN_OBSERVE)
    plan_shrink: float = option(SHRINK, PLAN_SHRINK)
    plan_finish: float = option(FINISH, PLAN_FINISH)

    def __post_init__(self) -> None:
        require_regularizer(self.regularizer)
        require_half_space(self.half_space_eps)
        require_shares(self.plan_observe, self.plan_shrink, self.plan_finish)
        for name in ("amplify", "ceiling"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < math.inf:
                raise UsageError(f"{name} is {value}: give a number from 1, or leave it out for the default")

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        plan = Plan.of(
            task.steps, observe=self.plan_observe, shrink=self.plan_shrink, finish=self.plan_finish
        )
        usual = usual_pull(task.direction)
        pull = Pull(
            usual.regularizer if self.regularizer is None else self.regularizer,
            usual.amplify if self.amplify is None else self.amplify,
            usual.ceiling if self.ceiling is None else self.ceiling,
        )
        return Published(task, plan, pull=pull, eps=self.half_space_eps)


def usual_pull(direction: Direction) -> Pull:
    """Return the package's default for a direction."""
    return ADAPTIVE if "square" in direction.slots else PLAIN


def redundancy(moments: Moments, sizes: npt.NDArray[np.int64]) -> Floats:
    """Return how redundant each group is, large = drop first: float64 [K]. moments: of (x, v)."""
    norm = np.sqrt(moments.xx)
    lengths = norm * np.sqrt(moments.yy)
    aligned = np.divide(moments.xy, lengths, out=np.zeros_like(norm), where=lengths > 0)
    thin = 1.0 / (norm / np.maximum(sizes, 1) + THINNESS_GUARD)
    parts = (each / (np.linalg.norm(each) or 1.0) for each in (aligned, thin))
    return np.asarray(0.5 * next(parts) + 0.5 * next(parts))


def shrink_distance(moments: Moments, pull: Pull, lr: float) -> Floats:
    """Return a * pull * ||x|| / (||x|| + 1e-8) per group, float64 [K]: how far the penalty moves x towards zero.

    moments: of (x, v).
    """
    norm = np.sqrt(moments.xx)
    against = (moments.xy < 0) & (norm > 0)
    low = np.divide(-moments.xy, norm, out=np.zeros_like(norm), where=against)
    high = np.divide(-moments.yy * norm, moments.xy, out=np.full_like(norm, np.inf), where=against)
    wanted = np.clip(pull.amplify * low, pull.regularizer, pull.ceiling * pull.regularizer)
    wanted = np.where(wanted >= high, (low + high) / 2, wanted)
    return np.where(against, wanted, pull.regularizer) * lr * norm / (norm + GUARD)
