"""What optimizers have in common that let groups go: how they tell of them, and their state.

The file of each says when groups are chosen and how they come to zero: its `step`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from onnx_oto.optim.base import State, part, prefixed
from onnx_oto.optim.leaving import Leaving
from onnx_oto.optim.plan import Plan
from onnx_oto.optim.saliency import Average
from onnx_oto.optim.stepper import Stepper
from onnx_oto.optim.waiting import Waiting

Array = npt.NDArray[Any]


class Sparsifier:
    """An `Optimizer` but for `phase` and `step`. What else the next step depends on is for `_own` and `_take`."""

    _stepper: Stepper
    _leaving: Leaving
    _saliency: Average | None = None
    _waiting: Waiting | None = None

    @property
    def zeroed(self) -> int:
        """How many groups are exactly zero for good."""
        return self._leaving.zeroed

    @property
    def target(self) -> int | None:
        """How many groups were chosen to become zero; None before they were."""
        return self._leaving.target

    def hear(self, loss: float) -> bool:
        """See `Optimizer.hear`."""
        repeats = self._waiting is not None and self._waiting.hear(loss, self._stepper.taken)
        if repeats and self._saliency is not None:
            self._saliency.begin()
        return repeats

    def state(self) -> State:
        """See `Optimizer.state`."""
        scored = {} if self._saliency is None else prefixed("saliency", self._saliency.state())
        waited = {} if self._waiting is None else prefixed("waiting", self._waiting.state())
        return {
            **prefixed("direction", self._stepper.state()),
            **scored,
            **waited,
            **prefixed("groups", {**self._leaving.state(), **self._own()}),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """See `Optimizer.restore`."""
        own = part(state, "groups")
        self._leaving.restore(own)
        self._stepper.restore(part(state, "direction"))
        if self._saliency is not None:
            self._saliency.restore(part(state, "saliency"))
        if self._waiting is not None and any(
            name.startswith("waiting.") for name in state
        ):  # not in older checkpoints
            self._waiting.restore(part(state, "waiting"))
        self._take(own)

    @property
    def _clock(self) -> int:
        """Which step of the plan comes next."""
        taken = self._stepper.taken
        return taken if self._waiting is None else self._waiting.clock(taken)

    def _own(self) -> State:
        """Return copies of what the next step depends on besides."""
        return {}

    def _take(self, own: Mapping[str, Array]) -> None:
        """Take over what `_own` returned."""


class Planned(Sparsifier):
    """One whose steps follow a plan."""

    _plan: Plan

    @property
    def phase(self) -> str:
        """What the next step will do: "observe", "shrink", "finish" or "done"."""
        return self._plan.phase(self._clock)
