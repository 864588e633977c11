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
- The saliency is averaged over the second half of the observe phase, not taken from one mini-batch.
- Exactly the groups that `select` returned are penalised and nothing else is ever projected, so the target
  cannot be overshot. What the shrinking did not finish is scaled by (T-t-1)/(T-t) in step t up to the
  deadline T (as HESSO does): norms fall linearly, there is no late cut, and the target is met at a step
  that is known in advance.
- A dead group is dead for momentum, Adam's moments and weight decay as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError, UsageError
from onnx_oto.optim.base import Bools, Floats, Optimizer, Select, State, Task, part, prefixed
from onnx_oto.optim.directions import Direction, Stepper
from onnx_oto.optim.groups import GroupIndex, Moments
from onnx_oto.optim.plan import FINISH, OBSERVE, SHRINK, Plan, require_shares
from onnx_oto.optim.saliency import SALIENCIES, Average
from onnx_oto.optim.stated import option

Array = npt.NDArray[Any]

# Of the interval (low, high) this much at most, so that f keeps descending.
DESCENT_SHARE = 0.9


class Dhspg:
    """The optimizer; see the module. Parameters outside all groups, and groups not chosen, take plain steps.

    size: number P of parameters in the flat buffers. groups: K groups. select: asked once, at the partition step.
    decayed: stretches of the buffers that weight decay is for, None = all. regularizer: lambda at the partition
    step, None for the pace that meets the end of the shrink phase. eps: of the half-space, in [0, 1).
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
        decayed: Iterable[slice] | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        _require(saliency, regularizer, eps)
        self._stepper = Stepper(direction, size, dtype=dtype, decayed=decayed)
        self._groups = groups
        self._select = select
        self._plan = plan
        self._regularizer = regularizer
        self._eps = eps
        self._saliency = Average(SALIENCIES[saliency], groups.sizes)
        self._chosen: Bools | None = None
        self._penalised = groups.subset(np.zeros(groups.count, np.bool_))
        self._dead = np.zeros(groups.count, np.bool_)
        self._pace = np.zeros(groups.count)

    @property
    def phase(self) -> str:
        """What the next step will do: "observe", "shrink", "finish" or "done"."""
        return self._plan.phase(self._stepper.taken)

    @property
    def zeroed(self) -> int:
        """How many groups are exactly zero for good."""
        return int(np.count_nonzero(self._dead))

    @property
    def target(self) -> int | None:
        """How many groups were chosen to become zero; None before the partition step."""
        return None if self._chosen is None else int(np.count_nonzero(self._chosen))

    @property
    def dead(self) -> Bools:
        """Copy of the mask of zeroed groups: bool [K]."""
        return self._dead.copy()

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        step = self._stepper.taken
        if self._plan.observe // 2 <= step <= self._plan.partition:
            self._saliency.add(self._groups.moments(params, grads))
        if step == self._plan.partition:
            self._partition(params, lr)
        self._penalised.zero(grads, self._dead)
        phase = self._plan.phase(step)
        if phase not in ("shrink", "finish"):
            self._stepper.plain(params, grads, lr)
            return
        self._stepper.turn(params, grads)
        if phase == "shrink":
            self._shrink(params, grads, lr)
        else:
            self._finish(params, grads, self._plan.deadline - step)
        self._stepper.descend(params, grads, lr)

    def state(self) -> State:
        """See `Optimizer.state`."""
        own: State = {"dead": self._dead.copy(), "pace": self._pace.copy()}
        if self._chosen is not None:
            own["chosen"] = self._chosen.copy()
        return {
            **prefixed("direction", self._stepper.state()),
            **prefixed("saliency", self._saliency.state()),
            **prefixed("groups", own),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """See `Optimizer.restore`."""
        own = part(state, "groups")
        if own["dead"].shape != self._dead.shape:
            raise OtoError(
                f"optimizer state has {own['dead'].shape} groups, the model has {self._dead.shape}"
            )
        self._stepper.restore(part(state, "direction"))
        self._saliency.restore(part(state, "saliency"))
        self._dead = np.array(own["dead"], np.bool_)
        self._pace = np.array(own["pace"], np.float64)
        self._chosen = np.array(own["chosen"], np.bool_) if "chosen" in own else None
        none = np.zeros(self._groups.count, np.bool_)
        self._penalised = self._groups.subset(none if self._chosen is None else self._chosen)

    def _partition(self, params: Array, lr: float) -> None:
        """Choose the groups to drop and how far each shrinks per step."""
        chosen = np.asarray(self._select(self._saliency.scores()))
        if chosen.shape != (self._groups.count,) or chosen.dtype != np.bool_:
            raise OtoError(
                f"select returned {chosen.dtype} {chosen.shape}, expected bool ({self._groups.count},)"
            )
        self._chosen = chosen.copy()
        self._penalised = self._groups.subset(chosen)
        if self._regularizer is not None:
            self._pace[:] = self._regularizer * lr
        elif self._plan.shrink:
            # Half a step early: a group that arrives exactly at the end would be decided by rounding.
            self._pace[:] = np.sqrt(self._penalised.square_norms(params)) / (self._plan.shrink - 0.5)

    def _shrink(self, params: Array, v: Array, lr: float) -> None:
        """Scale and project the penalised groups so that params - lr * v becomes the trial step or zero."""
        moments = self._penalised.moments(params, v)
        alive = self._alive
        norm = np.sqrt(moments.xx)
        distance = shrink_distance(moments, self._pace, lr)
        inner = moments.xx - lr * moments.xy - distance * norm
        project = alive & ((inner < self._eps * moments.xx) | (norm == 0))
        keep = alive & ~project
        self._kill(project, params, v)
        factor = np.ones_like(norm)
        factor[keep] = 1.0 - distance[keep] / norm[keep]
        self._penalised.scale(params, factor)

    def _finish(self, params: Array, v: Array, left: int) -> None:
        """Scale the penalised groups by (left-1)/left and take no gradient step on them.

        At left = 1 they are zero.
        """
        alive = self._alive
        if left == 1:
            self._kill(alive, params, v)
            return
        self._penalised.zero(v, alive)
        self._penalised.scale(params, np.where(alive, (left - 1) / left, 1.0))

    @property
    def _alive(self) -> Bools:
        """The penalised groups that are not zero yet: bool [K]."""
        return ~self._dead if self._chosen is None else self._chosen & ~self._dead

    def _kill(self, which: Bools, params: Array, v: Array) -> None:
        """Set groups to exactly zero in the parameters, the direction and its state."""
        for array in (params, v, *self._stepper.slots.values()):
            self._penalised.zero(array, which)
        self._dead |= which


def _require(saliency: str, regularizer: float | None, eps: float) -> None:
    if saliency not in SALIENCIES:
        raise UsageError(f"saliency {saliency!r}: choose one of {', '.join(SALIENCIES)}")
    if not 0 <= eps < 1:
        raise UsageError(f"half-space-eps is {eps}: give a share from 0 to below 1")
    if regularizer is not None and not 0 < regularizer < math.inf:
        raise UsageError(
            f"regularizer is {regularizer}: give a positive number, or none for the pace of the plan"
        )


@dataclass(frozen=True)
class DhspgOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    saliency: str = option("paper", "What tells which groups matter.", choices=tuple(SALIENCIES))
    regularizer: float | None = option(
        None,
        "Pull towards zero of the chosen groups, times the learning rate.  [default: the pace of the plan]",
    )
    half_space_eps: float = option(
        0.0, "A shrinking group is dropped when a step leaves less than this share of it, 0 to below 1."
    )
    plan_observe: float = option(OBSERVE, "Share of steps that train in full, before groups are chosen.")
    plan_shrink: float = option(SHRINK, "Share of steps in which the chosen groups shrink.")
    plan_finish: float = option(FINISH, "Share of steps that scale what is left of them to zero.")

    def __post_init__(self) -> None:
        _require(self.saliency, self.regularizer, self.half_space_eps)
        require_shares(self.plan_observe, self.plan_shrink, self.plan_finish)

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
            decayed=task.decayed,
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
