"""Base directions v, so that a plain step is x <- x - lr * v.

A direction is a pure elementwise rule: `turn` overwrites a stretch of the gradient with v and updates the
same stretch of its state arrays ("slots", flat arrays as long as the parameters). Being elementwise it can
be applied to any part of the buffers, which is what `Stepper` does: cache-sized pieces, in place, on a few
threads.

Where gradient, slots and parameter are exactly 0.0, v is exactly 0.0: a dead group that is fed a zero
gradient stays dead, in every direction here (the contract suite checks it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.workers import PIECE, default_threads, spread

Array = npt.NDArray[Any]


class Direction(Protocol):
    """An elementwise rule that turns gradients into a direction."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state arrays; each starts at zero and is as long as the parameters."""
        ...

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """Overwrite `g` with v, update `slots`; `x` is read only. All arrays 1-D of one length.

        Step counts from 0.
        """
        ...


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient with heavy-ball momentum, as in PyTorch (lr multiplies the momentum).

    d = g + weight_decay * x;  m <- momentum * m + d, from m = 0;  v = m, or d + momentum * m (nesterov).
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4

    @property
    def slots(self) -> tuple[str, ...]:
        """One array, or none without momentum."""
        return ("momentum",) if self.momentum else ()

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """See `Direction.turn`."""
        if self.weight_decay:
            np.multiply(x, self.weight_decay, out=scratch)
            np.add(g, scratch, out=g)
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


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015) with weight decay as a part of the gradient.

    d = g + weight_decay * x;  m <- b1 m + (1-b1) d;  s <- b2 s + (1-b2) d^2;
    v = m / (1-b1^t) / (sqrt(s / (1-b2^t)) + eps), t = step + 1.
    """

    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """See `Direction.turn`."""
        if self.weight_decay:
            np.multiply(x, self.weight_decay, out=scratch)
            np.add(g, scratch, out=g)
        _adaptive(g, slots, step, scratch, self.beta1, self.beta2, self.eps)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    V = Adam's v without decay + weight_decay * x.
    """

    slots: ClassVar[tuple[str, ...]] = ("mean", "square")

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2

    def turn(self, x: Array, g: Array, slots: Sequence[Array], step: int, scratch: Array) -> None:
        """See `Direction.turn`."""
        _adaptive(g, slots, step, scratch, self.beta1, self.beta2, self.eps)
        if self.weight_decay:
            np.multiply(x, self.weight_decay, out=scratch)
            np.add(g, scratch, out=g)


def _adaptive(
    g: Array, slots: Sequence[Array], step: int, scratch: Array, b1: float, b2: float, eps: float
) -> None:
    """Overwrite g with Adam's bias-corrected m / (sqrt(s) + eps)."""
    mean, square = slots
    np.multiply(mean, b1, out=mean)
    np.multiply(g, 1 - b1, out=scratch)
    np.add(mean, scratch, out=mean)
    np.multiply(square, b2, out=square)
    np.multiply(g, g, out=scratch)
    np.multiply(scratch, 1 - b2, out=scratch)
    np.add(square, scratch, out=square)
    np.multiply(square, 1 / (1 - b2 ** (step + 1)), out=scratch)
    np.sqrt(scratch, out=scratch)
    np.add(scratch, eps, out=scratch)
    np.divide(mean, scratch, out=g)
    np.multiply(g, 1 / (1 - b1 ** (step + 1)), out=g)


DIRECTIONS: dict[str, Callable[..., Direction]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW}


@dataclass(eq=False)
class Stepper:
    """Owns the state arrays of a direction for P parameters and applies it in pieces.

    `turn` makes v in place of the gradients, `descend` takes x -= lr * v, `plain` does both piece by piece
    so that each piece is read from memory once. Only turn and plain advance the step count.
    """

    direction: Direction
    size: int
    threads: int = field(default_factory=default_threads)
    dtype: npt.DTypeLike = np.float32
    taken: int = 0

    def __post_init__(self) -> None:
        self.slots: dict[str, Array] = {
            name: np.zeros(self.size, self.dtype) for name in self.direction.slots
        }
        self._parts = [slice(i, min(i + PIECE, self.size)) for i in range(0, self.size, PIECE)]

    def turn(self, x: Array, g: Array) -> None:
        """Overwrite the gradient g [P] with v [P]; x [P] is read only."""
        self._sweep(x, g, None)

    def plain(self, x: Array, g: Array, lr: float) -> None:
        """Overwrite the gradient g [P] with v [P] and x [P] with x - lr * v."""
        self._sweep(x, g, lr)

    def descend(self, x: Array, v: Array, lr: float) -> None:
        """Overwrite x [P] with x - lr * v; v [P] is read only."""

        def work(parts: Sequence[slice]) -> None:
            scratch = np.empty(min(PIECE, self.size), x.dtype)
            for part in parts:
                _descend(x[part], v[part], lr, scratch)

        spread(work, self._parts, self.threads)

    def state(self) -> dict[str, Array]:
        """Return copies of everything the next step depends on."""
        return {"taken": np.array(self.taken), **{name: slot.copy() for name, slot in self.slots.items()}}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned; OtoError when an array is missing or has another length."""
        for name, slot in self.slots.items():
            found = state.get(name)
            if found is None or found.shape != slot.shape:
                shape = "nothing" if found is None else str(found.shape)
                raise OtoError(f"optimizer state {name!r}: found {shape}, expected {slot.shape}")
            np.copyto(slot, found)
        self.taken = int(state["taken"])

    def _sweep(self, x: Array, g: Array, lr: float | None) -> None:
        step = self.taken

        def work(parts: Sequence[slice]) -> None:
            scratch = np.empty(min(PIECE, self.size), x.dtype)
            for part in parts:
                slots = [slot[part] for slot in self.slots.values()]
                self.direction.turn(x[part], g[part], slots, step, scratch[: part.stop - part.start])
                if lr is not None:
                    _descend(x[part], g[part], lr, scratch)

        spread(work, self._parts, self.threads)
        self.taken = step + 1


def _descend(x: Array, v: Array, lr: float, scratch: Array) -> None:
    change = np.multiply(v, lr, out=scratch[: len(v)])
    np.subtract(x, change, out=x)
