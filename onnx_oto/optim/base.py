"""What every optimizer is and is asked for, and the one that only trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.directions import Direction
from onnx_oto.optim.groups import GroupIndex
from onnx_oto.optim.stepper import Stepper

Array = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
State = dict[str, Array]


class Optimizer(Protocol):
    """Updates a flat parameter buffer, and may drive groups of it to exactly zero."""

    @property
    def phase(self) -> str:
        """What the next step will do: "observe", "shrink", "finish" or "done"."""
        ...

    @property
    def zeroed(self) -> int:
        """How many groups are exactly zero for good."""
        ...

    @property
    def target(self) -> int | None:
        """How many groups will be zero at the end; None before they are chosen."""
        ...

    def hear(self, loss: float) -> bool:
        """Take note of the loss of the next step, before it; return whether choosing groups is put off by it."""
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


class Select(Protocol):
    """Which groups go, by their scores and under every constraint of the model."""

    def __call__(self, scores: Floats, share: float = 1.0, gone: Bools | None = None) -> Bools:
        """Return the groups to drop: bool [K].

        scores: float64 [K], low = drop first. share: how much of what the run is to drop in the end, 0 to 1; a part is
        taken of the answer to the whole, so that nothing goes that would stay in the end. gone: bool [K], groups that
        are dropped for good: they are in the answer and count. May be asked as often as wanted; the same question has
        the same answer.
        """
        ...


@dataclass(frozen=True, eq=False)
class Task:
    """What an optimizer is asked to do.

    size: number P of parameters in the flat buffers. groups: K groups of them, and `select`, which chooses among them.
    steps: optimizer steps of the run; at the end of them exactly what was selected is zero. decayed: stretches of the
    buffers that weight decay is for, None = all. preset: bool [K], groups that were chosen and set to zero before the
    first step, None where they are to be chosen. still: stretches that do not train, and change only with a group that
    goes.
    """

    direction: Direction
    size: int
    groups: GroupIndex
    select: Select
    steps: int
    decayed: tuple[slice, ...] | None = None
    preset: Bools | None = None
    still: tuple[slice, ...] = ()


class OptimizerOptions(Protocol):
    """A frozen dataclass whose fields, made by `option`, are what the user may set of an optimizer.

    Raises UsageError when made from values out of range.
    """

    @property
    def prunes(self) -> bool:
        """Whether groups are driven to zero at all."""
        ...

    def build(self, task: Task) -> Optimizer:
        """Return a new optimizer."""
        ...


@dataclass(frozen=True)
class DenseOptions:
    """Nothing can be set; see `OptimizerOptions`."""

    prunes: ClassVar[bool] = False

    def build(self, task: Task) -> Optimizer:
        """See `OptimizerOptions.build`."""
        return Dense(task.direction, task.size, decayed=task.decayed)


class Dense:
    """Plain training: x <- x - lr * v. The baseline; no group is ever zeroed."""

    phase = "done"
    zeroed = 0
    target: int | None = 0

    def __init__(
        self,
        direction: Direction,
        size: int,
        *,
        decayed: Iterable[slice] | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self._stepper = Stepper(direction, size, dtype=dtype, decayed=decayed)

    def hear(self, loss: float) -> bool:
        """See `Optimizer.hear`."""
        return False

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
