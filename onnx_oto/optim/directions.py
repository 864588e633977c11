"""Base directions v, so that a plain step is x <- x - lr * v.

A direction is a pure elementwise rule: `turn` overwrites a stretch of the gradient with v and updates the
same stretch of its state arrays ("slots", flat arrays as long as the parameters). Being elementwise it can
be applied to any part of the buffers, which is what `Stepper` does: cache-sized pieces, in place, on a few
threads.

Weight decay is the stepper's, so that a direction knows nothing of parameters that are not decayed: with d the
decay, on the decayed stretches alone, g <- g + d * x in front of `turn`, or v <- v + d * x behind it (decoupled).

Where gradient, slots and parameter are exactly 0.0, v is exactly 0.0: a dead group that is fed a zero
gradient stays dead, in every direction here (the contract suite checks it).

A direction is a frozen dataclass: its fields, made by `option`, are options of the command line. A new one is
one class and one entry in `DIRECTIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.optim.stated import option

Array = npt.NDArray[Any]
Stretches = tuple[slice, ...]

SGD, ADAM = 0, 1
"""Rules that `sweeps` knows."""
WEIGHT_DECAY = "Share of each weight that is added to its gradient (sgd, adam) or step (adamw)."
BETA1 = "Share that the mean of the gradients keeps."
BETA2 = "Share that the mean of the squared gradients keeps."
EPS = "Added to the root of the mean square."


class Direction(Protocol):
    """An elementwise rule that turns gradients into a direction. All values are read only."""

    @property
    def rate(self) -> float:
        """The learning rate that is used unless one is given."""
        ...

    @property
    def weight_decay(self) -> float:
        """How much of a decayed parameter is added to its gradient, or to v."""
        ...

    @property
    def decoupled(self) -> bool:
        """Whether weight decay is added to v, behind the state, and not to the gradient."""
        ...

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays; each starts at zero and is as long as the parameters."""
        ...

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """Overwrite `g` with v, update `slots`; `x` is read only. All arrays 1-D of one length.

        Step counts from 0.
        """
        ...


@runtime_checkable
class Compiled(Protocol):
    """A direction whose rule `sweeps` knows too."""

    def constants(self, step: int) -> tuple[int, tuple[float, ...]]:
        """Return the number of the rule there and its constants: it computes the same bits as `turn`."""
        ...


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient with heavy-ball momentum, as in PyTorch (lr multiplies the momentum).

    d = g + weight_decay * x;  m <- momentum * m + d, from m = 0;  v = m, or d + momentum * m (nesterov).
    """

    rate: ClassVar[float] = 0.1
    decoupled: ClassVar[bool] = False

    momentum: float = option(0.9, "Share of the last step's direction that goes into the next.")
    nesterov: bool = option(False, "Look ahead by the momentum.")
    weight_decay: float = option(5e-4, WEIGHT_DECAY)

    def __post_init__(self) -> None:
        _require_shares(self, "momentum")
        _require_decay(self.weight_decay)

    @property
    def slots(self) -> tuple[str, ...]:
        """One array, or none without momentum."""
        return ("momentum",) if self.momentum else ()

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """See `Direction.turn`."""
        if not self.momentum:
            return
        (m,) = slots
        np.multiply(m, self.momentum, out=m)
        np.add(m, g, out=m)
        if not self.nesterov:
            np.copyto(g, m)
            return
        np.multiply(m, self.momentum, out=scratch)
        np.add(g, scratch, out=g)

    def constants(self, step: int) -> tuple[int, tuple[float, ...]]:
        """See `Compiled.constants`."""
        return SGD, (self.momentum, float(self.nesterov))


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015) with weight decay as a part of the gradient.

    d = g + weight_decay * x;  m <- b1 m + (1-b1) d;  s <- b2 s + (1-b2) d^2;
    v = m / (1-b1^t) / (sqrt(s / (1-b2^t)) + eps), t = step + 1.
    """

    slots: ClassVar[tuple[str, ...]] = ("mean", "square")
    rate: ClassVar[float] = 1e-3
    decoupled: ClassVar[bool] = False

    beta1: float = option(0.9, BETA1)
    beta2: float = option(0.999, BETA2)
    eps: float = option(1e-8, EPS)
    weight_decay: float = option(0.0, WEIGHT_DECAY)

    def __post_init__(self) -> None:
        _require_adaptive(self)
        _require_decay(self.weight_decay)

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """See `Direction.turn`."""
        _adaptive(g, slots, step, scratch, self.beta1, self.beta2, self.eps)

    def constants(self, step: int) -> tuple[int, tuple[float, ...]]:
        """See `Compiled.constants`."""
        return ADAM, _adaptive_constants(step, self.beta1, self.beta2, self.eps)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    V = Adam's v without decay + weight_decay * x.
    """

    slots: ClassVar[tuple[str, ...]] = ("mean", "square")
    rate: ClassVar[float] = 1e-3
    decoupled: ClassVar[bool] = True

    beta1: float = option(0.9, BETA1)
    beta2: float = option(0.999, BETA2)
    eps: float = option(1e-8, EPS)
    weight_decay: float = option(1e-2, WEIGHT_DECAY)

    def __post_init__(self) -> None:
        _require_adaptive(self)
        _require_decay(self.weight_decay)

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """See `Direction.turn`."""
        _adaptive(g, slots, step, scratch, self.beta1, self.beta2, self.eps)

    def constants(self, step: int) -> tuple[int, tuple[float, ...]]:
        """See `Compiled.constants`."""
        return ADAM, _adaptive_constants(step, self.beta1, self.beta2, self.eps)


def _adaptive_constants(step: int, b1: float, b2: float, eps: float) -> tuple[float, ...]:
    """Return the numbers of `_adaptive`, in the order of `sweeps`."""
    root, first = math.sqrt(1 - b2 ** (step + 1)), 1 - b1 ** (step + 1)
    return b1, 1 - b1, b2, 1 - b2, eps * root, root / first


def _adaptive(
    g: Array, slots: Sequence[Array], step: int, scratch: Array, b1: float, b2: float, eps: float
) -> None:
    """Overwrite g with Adam's bias-corrected m / (sqrt(s) + eps).

    The corrections are taken out of the arrays: m / c1 / (sqrt(s / c2) + eps) = m / (sqrt(s) + r eps) * r / c1 with
    r = sqrt(c2) and ci = 1 - bi^t.
    """
    mean, square = slots
    b1, rest1, b2, rest2, eps, factor = _adaptive_constants(step, b1, b2, eps)
    np.multiply(mean, b1, out=mean)
    np.multiply(g, rest1, out=scratch)
    np.add(mean, scratch, out=mean)
    np.multiply(square, b2, out=square)
    np.multiply(g, g, out=scratch)
    np.multiply(scratch, rest2, out=scratch)
    np.add(square, scratch, out=square)
    np.sqrt(square, out=scratch)
    np.add(scratch, eps, out=scratch)
    np.divide(mean, scratch, out=g)
    np.multiply(g, factor, out=g)


def _require_shares(direction: Direction, *names: str) -> None:
    for name in names:
        value = getattr(direction, name)
        if not 0 <= value < 1:
            raise UsageError(f"{name} is {value}: give a share from 0 to below 1")


def _require_adaptive(direction: Adam | AdamW) -> None:
    _require_shares(direction, "beta1", "beta2")
    if not 0 < direction.eps < math.inf:
        raise UsageError(f"eps is {direction.eps}: give a positive number")


def _require_decay(value: float) -> None:
    if not 0 <= value < math.inf:
        raise UsageError(f"weight-decay is {value}: give a number from 0")


DIRECTIONS: dict[str, type[Direction]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
