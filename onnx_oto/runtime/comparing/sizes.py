"""At which sizes of its open axes a model is run: found from small to large, then every pair of sizes together.

An axis is tried at the size the search began with, at 1, and at a prime unlike the constants of the graph and the
sizes of other axes. Which axes must move together (two inputs of one length that the model names differently) is found
by trying: axes that cannot move alone move as one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import onnx
from onnx import AttributeProto, TensorProto

from onnx_oto.model.graph.tensors import element_count, is_external, to_array
from onnx_oto.runtime.comparing.inputs import Sizes, Slot

SAMPLES = (3, 2, 1)
"""How many samples are fed at once, the first number that the model takes; else as many as the other sizes are."""
GROWING = (
    6, 7, 8, 9, 16, 17, 28, 32, 33, 48, 64, 96, 100, 112, 128, 160, 192, 224, 256, 299, 320, 384, 416, 512, 640,
    768, 1024, 1600, 2048, 4096, 8192, 16000, 16384, 22050, 32000, 44100, 48000, 65536,
)  # fmt: skip
"""What open axes are taken as until the model runs: small ones first, then what images, sound and text often have.

The first is even and a multiple of three, so that with 1 and a prime every remainder by 2 and 3 is met."""
PRIMES = (67, 61, 59, 53, 47, 43, 41, 37, 31, 29, 23, 19, 17, 13, 11, 7, 5, 3, 2)
MOST_HINTS = 12
MOST_ELEMENTS = 1 << 22
"""Of one input with open axes, while sizes are searched."""
PATIENCE = 1.0
"""Seconds that a run of the full model may be expected to take while sizes are searched."""
SHORT = 0.1
"""The same for one of several sizes that would do."""


class Ran(NamedTuple):
    """Whether the full model ran at the sizes asked for, and the seconds it took."""

    ok: bool
    seconds: float


Trial: TypeAlias = Callable[[Sizes], Ran]
Group: TypeAlias = tuple[str, ...]
"""Symbols of open axes that have one size."""


def find_base(
    inputs: Sequence[Slot], axes: Mapping[str, bool], hints: Sequence[int], trial: Trial
) -> dict[str, int] | None:
    """Return the first sizes at which the model runs, from small to large; None when none of those tried does.

    axes: symbol -> whether it counts samples. hints: further sizes to try. The search ends where a run would be
    expected to take too long; that bounds its memory too. Work grows at most with the square of an open axis, with
    the fourth power of two of them.
    """
    power = 2 * min(2, max(1, sum(not counts for counts in axes.values())))
    growing = [slot for slot in inputs if any(isinstance(dim, str) for dim in slot.dims)]
    spent, last = 0.0, 0
    for size in sorted({*GROWING, *hints}) if axes else (1,):
        if last and spent * (size / last) ** power > PATIENCE:
            break
        slowest = 0.0
        attempts = [
            s for s in _attempts(axes, size) if all(_elements(i, s) <= MOST_ELEMENTS for i in growing)
        ]
        if not attempts:
            break
        for sizes in attempts:
            ran = trial(sizes)
            if ran.ok:
                return sizes
            slowest = max(slowest, ran.seconds)
        if all(axes.values()) and size >= 16:
            break
        spent, last = slowest, size
    return _uneven(axes, trial)


def _attempts(axes: Mapping[str, bool], size: int) -> Iterator[dict[str, int]]:
    for count in dict.fromkeys((*SAMPLES, size)) if any(axes.values()) else (1,):
        yield {axis: count if counts else size for axis, counts in axes.items()}


def _uneven(axes: Mapping[str, bool], trial: Trial) -> dict[str, int] | None:
    """Try one axis unlike the others: the sum of two (a cache and what is new), or 1 (the batch of a state)."""
    for size, count in itertools.product((GROWING[0], GROWING[2]), (SAMPLES[0], SAMPLES[-1])):
        for axis in (axis for axis, counts in axes.items() if not counts):
            sizes = {name: count if counts else size for name, counts in axes.items()}
            for other in (2 * size, 1):
                if len(axes) > 1 and trial({**sizes, axis: other}).ok:
                    return {**sizes, axis: other}
    return None


def _elements(slot: Slot, sizes: Sizes) -> int:
    total = 1
    for size in slot.shape(sizes):
        total *= size
    return total


@dataclass
class Explorer:
    """Runs a model around `base`, sizes at which it runs in `seconds`.

    axes: symbol -> whether it counts samples. avoid: constants of the graph, which the sizes should not equal.
    """

    axes: Mapping[str, bool]
    base: Mapping[str, int]
    seconds: float
    avoid: frozenset[int]
    trial: Trial
    slower: dict[tuple[Group, int], float] = field(default_factory=dict)

    def explore(self) -> None:
        """Try every axis at other sizes, then such sizes of two axes together, each pair once."""
        tied: dict[bool, list[str]] = {}
        for axis, counts in self.axes.items():
            if not self._move((axis,), self._first_choice(axis)):
                tied.setdefault(counts, []).append(axis)
        for names in tied.values():
            if len({self.base[name] for name in names}) == 1:
                self._move(tuple(names), self._all_choices(names[0]))
        for row in covering(self.slower):
            expected = self.seconds
            for group, size in row:
                expected *= self.slower[group, size]
            if expected <= PATIENCE:
                self.trial(self._sizes(row))

    def _move(self, group: Group, choices: Sequence[Sequence[int]]) -> bool:
        """Run at the first size that does of every choice; say whether there was one."""
        moved = False
        for choice in choices:
            for size in choice:
                ran = self.trial(self._sizes([(group, size)]))
                if ran.ok:
                    self.slower[group, size] = max(ran.seconds / max(self.seconds, 1e-4), 1.0)
                    moved = True
                    break
        return moved

    def _sizes(self, row: Sequence[tuple[Group, int]]) -> dict[str, int]:
        sizes = dict(self.base)
        for group, size in row:
            sizes.update(dict.fromkeys(group, size))
        return sizes

    def _first_choice(self, axis: str) -> list[list[int]]:
        base = self.base[axis]
        if self.axes[axis]:
            return [[size for size in (1, 2, 4) if size != base]]
        return [[self._prime(base), 2 * base], [1] if base != 1 else []]

    def _all_choices(self, axis: str) -> list[list[int]]:
        base = self.base[axis]
        if self.axes[axis]:
            return self._first_choice(axis)
        more = [2 * base, 3 * base, base + 1, base + 2, base + 8, base + 16, base + 32, base // 2, base - 1]
        return [[self._prime(base), *(size for size in more if 1 < size != base)], [1] if base != 1 else []]

    def _prime(self, base: int) -> int:
        """Return a prime unlike other sizes: the largest that costs little, beyond `base` where there is one."""
        used = {*self.avoid, *self.base.values(), *(size for _, size in self.slower)}
        free = [p for p in PRIMES if p not in used and base % p]
        beyond = [p for p in free if p > base]
        cheap = [p for p in beyond if self.seconds * (p / base) ** 2 <= SHORT]
        return (cheap[:1] or beyond[-1:] or [next_prime(base)])[0]


def next_prime(size: int) -> int:
    """Return the smallest prime above a size.

    >>> next_prime(416), next_prime(67)
    (419, 71)
    """
    found = size + 1
    while any(found % divisor == 0 for divisor in range(2, int(found**0.5) + 1)):
        found += 1
    return found


def covering(levels: Mapping[tuple[Group, int], float]) -> Iterator[list[tuple[Group, int]]]:
    """Yield rows, one size for some groups each, until every two sizes of different groups were in one row.

    >>> found = [(("a",), 1), (("a",), 2), (("b",), 3), (("c",), 4)]
    >>> [[size for _, size in row] for row in covering(dict.fromkeys(found, 1.0))]
    [[1, 3, 4], [2, 3], [2, 4]]
    """
    left = {pair for pair in itertools.combinations(levels, 2) if pair[0][0] != pair[1][0]}
    while left:
        row = list(min(left, key=lambda pair: [list(levels).index(level) for level in pair]))
        for level in levels:
            gained = [pair for other in row if (pair := _pair(levels, level, other)) in left]
            if all(level[0] != other[0] for other in row) and gained:
                row.append(level)
        left -= {_pair(levels, one, other) for one, other in itertools.combinations(row, 2)}
        yield row


def _pair(
    levels: Mapping[tuple[Group, int], float], one: tuple[Group, int], other: tuple[Group, int]
) -> tuple[tuple[Group, int], tuple[Group, int]]:
    order = list(levels)
    return (one, other) if order.index(one) < order.index(other) else (other, one)


def constants(model: onnx.ModelProto) -> frozenset[int]:
    """Return the sizes of parameters, small whole constants, and whole attributes of a graph."""
    found: set[int] = set()
    for tensor in model.graph.initializer:
        found.update(tensor.dims)
        whole = tensor.data_type in (TensorProto.INT64, TensorProto.INT32)
        if whole and element_count(tensor) <= 64 and not is_external(tensor):
            found.update(int(value) for value in to_array(tensor).flat)
    for node in model.graph.node:
        for attr in node.attribute:
            if attr.type == AttributeProto.INT:
                found.add(attr.i)
            elif attr.type == AttributeProto.INTS:
                found.update(attr.ints)
    return frozenset(found)


def hints(model: onnx.ModelProto) -> list[int]:
    """Return sizes that parameters have along an axis next to one of size 1, or first: often of positions."""
    found = {int(size) for t in model.graph.initializer if len(t.dims) > 1 for size in t.dims}
    return sorted(size for size in found - set(GROWING) if GROWING[0] < size <= 2048)[:MOST_HINTS]
