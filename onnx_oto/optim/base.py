"""What every optimizer is, and the one that only trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.directions import Direction, Stepper

Array = npt.NDArray[Any]
State = dict[str, Array]


class Optimizer(Protocol):
    """Updates a flat parameter buffer, and may drive groups of it to exactly zero."""

    @property
    def phase(self) -> str:
        """What the next step will do: "warm-up", "shrink", "finish" or "done"."""
        ...

    @property
    def zeroed(self) -> int:
        """How many groups are exactly zero for good."""
        ...

    @property
    def target(self) -> int | None:
        """How many groups will be zero at the end; None before they are chosen."""
        ...

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """Update `params` [P] in place. `grads` [P] is overwritten: it is scratch space afterwards."""
        ...

    def state(self) -> State:
        """Return copies of everything the next step depends on, arrays by name."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` of an equally configured optimizer returned.

        OtoError when it does not fit.
        """
        ...


class Dense:
    """Plain training: x <- x - lr * v. The baseline; no group is ever zeroed."""

    phase = "done"
    zeroed = 0
    target: int | None = 0

    def __init__(self, direction: Direction, size: int, *, dtype: npt.DTypeLike = np.float32) -> None:
        self._stepper = Stepper(direction, size, dtype=dtype)

    def step(self, params: Array, grads: Array, lr: float) -> None:
        """See `Optimizer.step`."""
        self._stepper.plain(params, grads, lr)

    def state(self) -> State:
        """See `Optimizer.state`."""
        return prefixed("direction", self._stepper.state())

    def restore(self, state: Mapping[str, Array]) -> None:
        """See `Optimizer.restore`."""
        self._stepper.restore(part(state, "direction"))


def prefixed(name: str, state: Mapping[str, Array]) -> State:
    """Return the state with `name.` before every key.

    >>> prefixed("direction", {"taken": 1})
    {'direction.taken': 1}
    """
    return {f"{name}.{key}": value for key, value in state.items()}


def part(state: Mapping[str, Array], name: str) -> State:
    """Return what `prefixed` put under `name`; OtoError when there is nothing."""
    found = {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(name + ".")}
    if not found:
        raise OtoError(f"optimizer state has no {name!r} part: it holds {sorted(state)}")
    return found
