"""Widths that kernels like: how many units may go so that what an operator sees is a multiple of something.

An operator does not see lanes but axes: the channels of a convolution, which several dimensions may make together, or
heads times their size. A lane may take several positions of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.lanes.layout import IntArray
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.symbols import Estimated
from onnx_oto.zigs.analysis import Analysis
from onnx_oto.zigs.units import Family

BLOCK = 16
"""What kernels of CPUs compute channels by (AVX-512; AVX2 by 8, NEON by 4), and accelerators: see `Rounding.block`.

Of 0.5 of the MACs, which is what is gained by rounding to 1, 4, 8 and 16 (one thread of an AVX-512 processor, ONNX
Runtime 1.32, speed-up as a share of MACs / MACs): ResNet-18 0.74, 0.83, 0.89, 0.95; MobileNetV2 0.33, 0.71, 0.77, 0.89;
EfficientNet-B0 0.36, 0.70, 0.74, 0.85; DenseNet-121 0.60, 0.68, 0.70, 0.88.
"""
ALIGNMENT = 4
"""Channel counts that are no multiple of it leave the blocked kernels of ONNX Runtime, on every processor."""
BLOCKS = (BLOCK, 8, ALIGNMENT, 2, 1)
"""What `auto` tries, in this order, until what was asked for can be met."""

_PASSES = 3


@dataclass(frozen=True)
class Rounding:
    """Which widths are wanted: multiples of `block`; of `least` where an axis is shorter than a block.

    >>> Rounding(16, 4).of(64), Rounding(16, 4).of(12), Rounding(8, 8).of(6)
    (16, 4, 8)
    """

    block: int
    least: int

    def of(self, size: int) -> int:
        """Return the multiple that an axis of so many positions should keep."""
        return self.block if size >= self.block else self.least


def fixed(multiple: int) -> Rounding:
    """Return multiples of the same number everywhere."""
    return Rounding(multiple, multiple)


def automatic(block: int = BLOCK, alignment: int = ALIGNMENT) -> tuple[Rounding, ...]:
    """Return what to try, the widest steps first: those that kernels like, and finer ones."""
    blocks = [block, *(each for each in BLOCKS if each < block)]
    return tuple(Rounding(each, min(alignment, each)) for each in blocks)


@dataclass(frozen=True, eq=False)
class _Axis:
    """An axis that an operator sees. weight: multiply-accumulates. base: positions that no family takes.

    times: by family, how many positions one of its lanes takes.
    """

    weight: float
    multiple: int
    base: int
    times: dict[int, int]


def rounded(analysis: Analysis, families: Sequence[Family], rounding: Rounding) -> tuple[Family, ...]:
    """Return families that may only lose so many units that the axes operators see keep a multiple, or lose nothing.

    Where several families make one axis each keeps a fixed remainder, so that any of them may be cut alone. Remainders
    are chosen so that most multiply-accumulates are by axes that keep their multiple.
    """
    axes = list(_axes(analysis, families, rounding))
    of_family: list[list[int]] = [[] for _ in families]
    for place, axis in enumerate(axes):
        for number in axis.times:
            of_family[number].append(place)
    modulus = [
        max((_modulus(axes[place], number) for place in own), default=1)
        for number, own in enumerate(of_family)
    ]
    remainder = [0 for _ in families]
    for number, family in enumerate(families):
        reachable = _reachable(family, modulus[number])
        remainder[number] = 0 if 0 in reachable else family.size % modulus[number]
    options = [sorted(_reachable(*each)) for each in zip(families, modulus, strict=True)]
    totals = [axis.base + sum(t * remainder[n] for n, t in axis.times.items()) for axis in axes]
    order = sorted(range(len(axes)), key=lambda number: -axes[number].weight)
    for _ in range(_PASSES):
        before = list(remainder)
        for place in order:
            if totals[place] % axes[place].multiple == 0:
                continue
            for number in axes[place].times:
                own = [(axes[each], totals[each]) for each in of_family[number]]
                now = remainder[number]
                best = max(options[number], key=lambda r: (_worth(own, number, r - now), r == now))
                for each in of_family[number]:
                    totals[each] += axes[each].times[number] * (best - now)
                remainder[number] = best
        if remainder == before:
            break
    return tuple(
        family.allowing(_steps(family, modulus[number], remainder[number]))
        for number, family in enumerate(families)
    )


def _worth(axes: Sequence[tuple[_Axis, int]], number: int, change: int) -> float:
    """Return the work of those axes, given with what stays of them, that keep a multiple after a change of a family."""
    return sum(
        axis.weight for axis, total in axes if (total + axis.times[number] * change) % axis.multiple == 0
    )


def _modulus(axis: _Axis, number: int) -> int:
    return axis.multiple // math.gcd(axis.multiple, axis.times[number])


def _reachable(family: Family, modulus: int) -> set[int]:
    return {(family.size - k * family.step) % modulus for k in range(family.limit + 1)}


def _steps(family: Family, modulus: int, remainder: int) -> IntArray:
    counts: IntArray = np.arange(family.limit + 1)
    allowed: IntArray = counts[(counts == 0) | ((family.size - counts * family.step) % modulus == remainder)]
    return allowed


def told_apart(analysis: Analysis) -> IntArray:
    """Return which axes every lane lies on that operators see, as a number: int64 [lanes].

    Lanes of one dimension that differ in it make up axes of their own (the parts of a Split).
    """
    rng = np.random.default_rng(0)
    result = np.zeros(analysis.lanes.count, np.uint64)
    for _, lanes in _seen(analysis):
        names, counts = np.unique(lanes, return_counts=True)
        result[names] += rng.integers(1, 2**63, dtype=np.uint64) * counts.astype(np.uint64)
    numbers: IntArray = result.astype(np.int64)
    return numbers


def _seen(analysis: Analysis) -> list[tuple[float, IntArray]]:
    """Return the axes that products are summed or made over, lanes int64 [positions], each once with its work.

    Open sizes count as 1: only the shares that axes have of the work matter.
    """
    at = Estimated({}, analysis.graph.about)
    found: dict[bytes, tuple[float, IntArray]] = {}
    for product in itertools.chain.from_iterable(analysis.trace.macs.values()):
        work = float(math.prod(labels.size for labels in (*product.counted, *product.repeated)))
        work *= 1 if product.size is None else max(value_at(product.size, at), 0)
        for labels in product.counted:
            if labels.ndim == 1:
                lanes = analysis.lanes.of_label[labels]
                before, _ = found.get(lanes.tobytes(), (0.0, lanes))
                found[lanes.tobytes()] = (before + work, lanes)
    return list(found.values())


def _axes(analysis: Analysis, families: Sequence[Family], rounding: Rounding) -> Iterator[_Axis]:
    family_of = np.full(analysis.lanes.count, -1, np.int64)
    for number, family in enumerate(families):
        family_of[family.lanes] = number
    for weight, lanes in _seen(analysis):
        names, counts = np.unique(lanes, return_counts=True)
        owners = family_of[names]
        times: dict[int, int] = {}
        for number in np.unique(owners[owners >= 0]).tolist():
            own = counts[owners == number]
            if own.size != families[number].size or (own != own[0]).any():
                break  # a part of a family: how much of it stays is not said by how many lanes stay
            times[number] = int(own[0])
        else:
            if times:
                base = lanes.size - sum(families[n].size * t for n, t in times.items())
                yield _Axis(weight, rounding.of(lanes.size), base, times)
