"""Cut at once: groups of low scores become zero in a single step, and the rest trains on. Two baselines.

`magnitude` trains in full until the partition step, then cuts, then goes on: the classical three stages, train, prune,
fine-tune (Han et al., NeurIPS 2015, arXiv 1506.02626; of whole filters: Li et al., ICLR 2017, arXiv 1608.08710), with
one schedule over all of them. `one-shot` cuts in front of the first step: of a model that was trained already by its
weights, of a new one by its first gradient too (with a saliency that reads it, in the manner of SNIP, Lee et al., ICLR
2019, arXiv 1810.02340).

What is not as published: which groups go is for `select` to say, by scores that are averaged over the last tenth of
the steps in front of the cut. Groups that are zero from the beginning (`Task.preset`) count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.base import Optimizer, Task
from onnx_oto.optim.leaving import Leaving
from onnx_oto.optim.plan import PLAN_OBSERVE, require_share
from onnx_oto.optim.saliency import SALIENCIES, SALIENCY, Average, require_saliency
from onnx_oto.optim.sparsifier import Sparsifier
from onnx_oto.optim.stated import option
from onnx_oto.optim.stepper import Stepper

Array = npt.NDArray[Any]

HALF = 0.5
"""Share of the steps in front of the cut, of `magnitude`."""
SEEN = 0.1
"""Share of these whose scores count."""


class Cut(Sparsifier):
    """The optimizer; see the module. at: the step, counted from 0, that begins with the cut."""

    def __init__(
        self, task: Task, at: int, *, saliency: str = "magnitude", dtype: npt.DTypeLike = np.float32
    ) -> None:
        self._stepper = Stepper(task.direction, task.size, dtype=dtype, decayed=task.decayed)
        self._leaving = Leaving(task.groups, task.select, self._stepper, preset=task.preset, still=task.still)
        self._at = at
        self._saliency: Average = Average(SALIENCIES[saliency], task.groups)

    @property
    def phase(self) -> str:
        """What the next step will do: "observe", "finish" (it begins with the cut) or "done"."""
        taken = self._stepper.taken
        return "observe" if taken < self._at else "finish" if taken == self._at else "done"

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        step, leaving = self._stepper.taken, self._leaving
        if self._at * (1 - SEEN) <= step <= self._at:
            self._saliency.add(params, grads)
        if step == self._at:
            leaving.choose(self._saliency.scores())
            leaving.kill(leaving.alive, params)
        leaving.hold(params, grads)
        self._stepper.plain(params, grads, lr)


@dataclass(frozen=True)
class MagnitudeOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    saliency: str = option("magnitude", SALIENCY, choices=tuple(SALIENCIES))
    plan_observe: float = option(HALF, PLAN_OBSERVE)

    def __post_init__(self) -> None:
        require_saliency(self.saliency)
        require_share("plan-observe", self.plan_observe)

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`. The cut is within the run."""
        return Cut(task, min(round(task.steps * self.plan_observe), task.steps - 1), saliency=self.saliency)


@dataclass(frozen=True)
class OneShotOptions:
    """What the user may set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    saliency: str = option("magnitude", SALIENCY, choices=tuple(SALIENCIES))

    def __post_init__(self) -> None:
        require_saliency(self.saliency)

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        return Cut(task, 0, saliency=self.saliency)
