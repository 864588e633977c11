"""Refit: the groups are gone before the first step, and what reads them was fitted anew; the rest trains.

Which groups go is no question of gradients here: whoever builds the optimizer has seen what the model computes on data
(see `onnx_oto.refit`), has set them to zero, and says so by `Task.preset`. They stay zero, in the state of the
direction too. Where nobody says, those of the smallest root mean square go at the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.base import Bools, Optimizer, State, Task, part, prefixed
from onnx_oto.optim.directions import Stepper

Array = npt.NDArray[Any]


class Refit:
    """The optimizer; see the module."""

    def __init__(self, task: Task) -> None:
        self._stepper = Stepper(task.direction, task.size, decayed=task.decayed)
        self._groups, self._select = task.groups, task.select
        self._dead: Bools | None = None
        self._gone = task.groups.subset(np.zeros(task.groups.count, np.bool_))
        if task.preset is not None:
            self._let_go(task.preset)

    @property
    def phase(self) -> str:
        """What the next step will do: "done", or "finish" where it chooses."""
        return "finish" if self._dead is None else "done"

    @property
    def zeroed(self) -> int:
        """How many groups are exactly zero for good."""
        return 0 if self._dead is None else int(np.count_nonzero(self._dead))

    @property
    def target(self) -> int | None:
        """All that are zero; None before that is known."""
        return None if self._dead is None else self.zeroed

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        if not self._stepper.taken:
            self._begin(params)
        if self._dead is not None:
            self._gone.zero(grads, self._dead)
        self._stepper.plain(params, grads, lr)

    def state(self) -> State:
        """See `Optimizer.state`."""
        own: State = {"count": np.array(self._groups.count)}
        if self._dead is not None:
            own["dead"] = self._dead.copy()
        return {**prefixed("direction", self._stepper.state()), **prefixed("groups", own)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """See `Optimizer.restore`."""
        own = part(state, "groups")
        if int(own["count"]) != self._groups.count:
            raise OtoError(f"optimizer state has {own['count']} groups, the model has {self._groups.count}")
        self._stepper.restore(part(state, "direction"))
        if "dead" in own:
            self._let_go(np.array(own["dead"], np.bool_))

    def _begin(self, params: Array) -> None:
        """Set to zero what goes; choose it where nobody did."""
        if self._dead is None:
            means = self._groups.square_norms(params) / np.maximum(self._groups.sizes, 1)
            self._let_go(np.asarray(self._select(np.sqrt(means)), np.bool_))
        assert self._dead is not None
        self._gone.zero(params, self._dead)

    def _let_go(self, dead: Bools) -> None:
        if dead.shape != (self._groups.count,):
            raise OtoError(f"{dead.shape} groups are to go, of ({self._groups.count},)")
        self._dead, self._gone = dead.copy(), self._groups.subset(dead)


@dataclass(frozen=True)
class RefitOptions:
    """Nothing can be set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = True

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        return Refit(task)
