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
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError, UsageError
from onnx_oto.optim.groups import GroupIndex, Moments
from onnx_oto.optim.stated import option
from onnx_oto.optim.workers import PIECE, compiles, default_threads, spread

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


def merged(stretches: Iterable[slice], size: int) -> Stretches:
    """Return stretches of a buffer of `size` in order, those that touch as one; OtoError where they do not fit.

    >>> merged([slice(6, 8), slice(0, 2), slice(2, 5)], 8)
    (slice(0, 5, None), slice(6, 8, None))
    """
    found: list[slice] = []
    for each in sorted(stretches, key=lambda each: (each.start, each.stop)):
        last = found[-1].stop if found else 0
        if not last <= each.start <= each.stop <= size:
            raise OtoError(
                f"stretch {each.start}:{each.stop} overlaps another, or the {size} parameters end before"
            )
        if found and last == each.start:
            found[-1] = slice(found[-1].start, each.stop)
        elif each.start < each.stop:
            found.append(each)
    return tuple(found)


@dataclass(eq=False)
class Stepper:
    """Owns the state arrays of a direction for P parameters and applies it in pieces.

    `turn` makes v in place of the gradients, `descend` takes x -= lr * v, `plain` does both piece by piece
    so that each piece is read from memory once; so do `turn_apart` and `descend_together` for optimizers that
    shorten some groups. Only turn, plain and turn_apart advance the step count. decayed: the stretches of the buffer
    that weight decay is for; None = all of it.
    """

    direction: Direction
    size: int
    threads: int = field(default_factory=default_threads)
    dtype: npt.DTypeLike = np.float32
    taken: int = 0
    decayed: Iterable[slice] | None = None

    def __post_init__(self) -> None:
        self.slots: dict[str, Array] = {
            name: np.zeros(self.size, self.dtype) for name in self.direction.slots
        }
        whole = (slice(0, self.size),)
        stretches = merged(whole if self.decayed is None else self.decayed, self.size)
        self._parts = list(_parts(self.size, stretches if self.direction.weight_decay else ()))
        self._edges = (
            np.array([(each.start, each.stop) for each in stretches], np.int64).reshape(-1, 2).T.copy()
        )
        self._whole = GroupIndex((), 0)

    def turn(self, x: Array, g: Array) -> None:
        """Overwrite the gradient g [P] with v [P]; x [P] is read only."""
        if not self._swept(x, g, 0.0, self._whole):
            self._sweep(x, g, None)

    def plain(self, x: Array, g: Array, lr: float) -> None:
        """Overwrite the gradient g [P] with v [P] and x [P] with x - lr * v."""
        if not (lr and self._swept(x, g, lr, self._whole)):
            self._sweep(x, g, lr)

    def turn_apart(self, x: Array, g: Array, lr: float, index: GroupIndex) -> Moments:
        """Overwrite g [P] with v [P] and return the moments of (x, v) of the groups of `index`.

        Then, or in `descend_together`, which has to follow, x becomes x - lr * v where none of these groups is.
        """
        if not self._swept(x, g, lr, index):
            self.turn(x, g)
            return index.moments(x, g)
        return Moments(*index.rows(self.size).gathered(index.count))

    def descend_together(
        self, x: Array, v: Array, lr: float, index: GroupIndex, factor: npt.NDArray[np.float64]
    ) -> None:
        """Overwrite x with factor * x - lr * v in the groups of `index`, after `turn_apart`. factor: [K]."""
        if not self._compiles(x, v):
            index.scale(x, factor)
            self.descend(x, v, lr)
            return
        from onnx_oto.optim.sweeps import descend_chosen  # loads the compiler

        rows = index.rows(self.size)
        factors = np.append(factor, 1.0).astype(x.dtype)[rows.labels]
        rows.over(
            lambda low, high: descend_chosen(x, v, rows.table, low, high, rows.chosen, factors, lr),
            self.threads,
            inside=True,
        )

    def _compiles(self, x: Array, g: Array) -> bool:
        return isinstance(self.direction, Compiled) and compiles(x, g, *self.slots.values())

    def _swept(self, x: Array, g: Array, lr: float, index: GroupIndex) -> bool:
        """Turn, and step but for the groups of `index`, in one compiled sweep; return whether that can be."""
        if not (isinstance(self.direction, Compiled) and self._compiles(x, g)):
            return False
        from onnx_oto.optim.sweeps import sweep  # loads the compiler

        kind, found = self.direction.constants(self.taken)
        constants = np.array(found)
        rows, none = index.rows(self.size), np.zeros(0, x.dtype)
        first, second = [*self.slots.values(), none, none][:2]
        decay, behind = self.direction.weight_decay, self.direction.decoupled
        rows.sums[:] = 0.0

        def work(low: int, high: int) -> None:
            table = (rows.table, low, high, rows.chosen, rows.sums)
            sweep(x, g, first, second, *table, kind, constants, decay, behind, *self._edges, lr)

        rows.over(work, self.threads)
        self.taken += 1
        return True

    def descend(self, x: Array, v: Array, lr: float) -> None:
        """Overwrite x [P] with x - lr * v; v [P] is read only."""

        def work(parts: Sequence[CachePart]) -> None:
            scratch = np.empty(min(PIECE, self.size), x.dtype)
            for at, _ in parts:
                _descend(x[at], v[at], lr, scratch)

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
        step, decay, behind = self.taken, self.direction.weight_decay, self.direction.decoupled

        def work(parts: Sequence[CachePart]) -> None:
            scratch = np.empty(min(PIECE, self.size), x.dtype)
            for at, decayed in parts:
                slots = [slot[at] for slot in self.slots.values()]
                if not behind:
                    _add_decay(x, g, decayed, decay, scratch)
                self.direction.turn(x[at], g[at], slots, step, scratch[: at.stop - at.start])
                if behind:
                    _add_decay(x, g, decayed, decay, scratch)
                if lr is not None:
                    _descend(x[at], g[at], lr, scratch)

        spread(work, self._parts, self.threads)
        self.taken = step + 1


class CachePart(NamedTuple):
    """A cache-sized part of the buffer, and the stretches inside it that are decayed."""

    at: slice
    decayed: Stretches


def _parts(size: int, decayed: Stretches) -> Iterator[CachePart]:
    """Yield the buffer in parts, in order; `decayed` is in order too."""
    waiting = deque(decayed)
    for start in range(0, size, PIECE):
        stop = min(start + PIECE, size)
        inside = []
        while waiting and waiting[0].start < stop:
            each = waiting.popleft()
            inside.append(slice(each.start, min(each.stop, stop)))
            if each.stop > stop:
                waiting.appendleft(slice(stop, each.stop))
        yield CachePart(slice(start, stop), tuple(inside))


def _add_decay(x: Array, g: Array, stretches: Stretches, decay: float, scratch: Array) -> None:
    """g += decay * x on the given stretches."""
    for at in stretches:
        change = np.multiply(x[at], decay, out=scratch[: at.stop - at.start])
        np.add(g[at], change, out=g[at])


def _descend(x: Array, v: Array, lr: float, scratch: Array) -> None:
    change = np.multiply(v, lr, out=scratch[: len(v)])
    np.subtract(x, change, out=x)
