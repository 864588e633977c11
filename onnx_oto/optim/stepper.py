"""What takes the steps: the state of a direction over the flat buffer, applied piece by piece.

Where there is a compiler and the direction has a compiled rule, a step is one sweep over memory (`sweeps`); numpy does
the same elsewhere, with the same bits for single elements. Where parameters lie on a device (`away`), so does the
state, and a step is the rule applied to whole buffers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.away import away
from onnx_oto.optim.directions import Compiled, Direction
from onnx_oto.optim.groups import GroupIndex, Moments
from onnx_oto.optim.workers import PIECE, compiles, default_threads, spread

Array = npt.NDArray[Any]
Stretches = tuple[slice, ...]


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
        self._stretches = stretches
        self._mask: Any = None

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
        return not away(x) and isinstance(self.direction, Compiled) and compiles(x, g, *self.slots.values())

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

        if away(x):
            np.subtract(x, np.multiply(v, lr), out=x)
            return

        def work(parts: Sequence[CachePart]) -> None:
            scratch = np.empty(min(PIECE, self.size), x.dtype)
            for at, _ in parts:
                _descend(x[at], v[at], lr, scratch)

        spread(work, self._parts, self.threads)

    def state(self) -> dict[str, Array]:
        """Return copies of everything the next step depends on."""
        return {"taken": np.array(self.taken), **{name: np.array(slot) for name, slot in self.slots.items()}}

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
        if away(x):
            self._sweep_away(x, g, lr)
            return

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

    def _sweep_away(self, x: Array, g: Array, lr: float | None) -> None:
        """Do as `_sweep` with buffers that lie elsewhere, by the same operations in the same order."""
        self._follow(x)
        decay, behind = self.direction.weight_decay, self.direction.decoupled
        if decay and not behind:
            np.add(g, np.multiply(x, decay), out=g, where=self._mask)
        self.direction.turn(x, g, [*self.slots.values()], self.taken, g.copy())
        if decay and behind:
            np.add(g, np.multiply(x, decay), out=g, where=self._mask)
        if lr is not None:
            self.descend(x, g, lr)
        self.taken += 1

    def _follow(self, x: Array) -> None:
        """Put the state where x is, and what is decayed."""
        there = away(x)
        if there is None or self._mask is not None:
            return
        mask = np.zeros(self.size, np.bool_)
        for each in self._stretches:
            mask[each] = True
        self._mask = True if mask.all() else there.beside(mask)
        self.slots = {name: there.beside(slot) for name, slot in self.slots.items()}


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
