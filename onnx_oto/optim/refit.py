"""Refit: the groups are gone before the first step, and what reads them was fitted anew; the rest trains.

Which groups go is no question of gradients here: whoever builds the optimizer has seen what the model computes on data
(see `onnx_oto.refit`), has set them to zero, and says so by `Task.preset`. They stay zero, in the state of the
direction too. Where nobody says, those of the smallest root mean square go at the first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from onnx_oto.optim.base import Optimizer, Task
from onnx_oto.optim.leaving import Leaving
from onnx_oto.optim.sparsifier import Sparsifier
from onnx_oto.optim.stepper import Stepper

Array = npt.NDArray[Any]


class Refit(Sparsifier):
    """The optimizer; see the module."""

    def __init__(self, task: Task) -> None:
        self._stepper = Stepper(task.direction, task.size, decayed=task.decayed)
        self._groups = task.groups
        self._leaving = Leaving(task.groups, task.select, self._stepper, preset=task.preset, still=task.still)
        if task.preset is not None:
            self._leaving.settle(task.preset)

    @property
    def phase(self) -> str:
        """What the next step will do: "done", or "finish" where it chooses."""
        return "finish" if self._leaving.target is None else "done"

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        leaving = self._leaving
        if leaving.target is None:
            leaving.choose(self._groups.root_mean_squares(params))
            leaving.kill(leaving.alive, params)
        leaving.hold(params, grads)
        self._stepper.plain(params, grads, lr)


@dataclass(frozen=True)
class RefitOptions:
    """Nothing can be set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        return Refit(task)
