"""What running a node takes, as a function of the lanes that stay: what its time is made of.

    time = calls + macs + moved + weights

each times a number that is found by measuring (see `fitted`): a call costs something by itself, multiply-accumulates
are made, activations are read and written, weights are read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from onnx_oto.lanes.layout import FloatArray
from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.symbols import Estimated
from onnx_oto.zigs.analysis import Analysis
from onnx_oto.zigs.terms import Factor, Terms, mac_terms, parameter_terms, terms

KINDS = ("calls", "macs", "moved", "weights")
"""What the time of a node is made of."""
MUST_GAIN = 0.98
"""What a further kind of work must leave of the error at most: kinds that grow alike would take turns by chance."""
Parts = Mapping[str, Terms]
"""By kind, how much of it a node takes."""


def work_of(analysis: Analysis, nodes: Iterable[Node], sizes: Mapping[str, int], block: int) -> Parts:
    """Return what some nodes take together, run as one.

    sizes: open ones, by symbol. block: what channels are computed by: widths count as whole blocks in "macs".
    """
    nodes = tuple(nodes)
    made = {name for node in nodes for name in node.outputs}
    read = {name for node in nodes for name in (*node.inputs, *node.captured) if name}
    parameters = read & set(analysis.graph.initializers)
    moved = [*(read - made - parameters), *(name for name in made if _leaves(analysis, name, nodes))]
    known = [node.name for node in nodes if node.name in analysis.trace.macs]
    return {
        "calls": terms([(1.0, [])]),
        "macs": in_blocks_of(mac_terms(analysis, sizes, known), block),
        "moved": terms(_elements(analysis, name, sizes) for name in sorted(moved)),
        "weights": parameter_terms(analysis, dict.fromkeys(sorted(parameters), 1.0)),
    }


def _leaves(analysis: Analysis, name: str, nodes: Sequence[Node]) -> bool:
    """Return whether others than these nodes read a tensor, or nobody does: then it is written."""
    readers = [reader for reader, _ in analysis.graph.consumers.get(name, ())]
    return not readers or any(reader not in nodes for reader in readers)


def _elements(analysis: Analysis, name: str, sizes: Mapping[str, int]) -> tuple[float, list[Factor]]:
    """Return how many elements a tensor has: a number, and the lanes of the axes that are labelled."""
    at = Estimated(sizes, analysis.graph.about)

    def counted(size: int | str | None) -> float:
        return 1.0 if size is None else float(max(value_at(size, at), 1))

    layout = analysis.trace.layouts.get(name)
    if layout is None:
        shape = analysis.graph.shapes.get(name) or ()
        return float(np.prod([counted(size) for size in shape])), []
    free = [layout.sizes[key] for key in itertools.chain(*layout.axes) if key not in layout.owners]
    factors = [analysis.lanes.of_label[block.labels.reshape(-1)] for block in layout.blocks]
    return float(np.prod([counted(size) for size in free])), factors


def in_blocks_of(found: Terms, block: int) -> Terms:
    """Return terms whose axes count in whole blocks, where they are at least one block long."""
    sizes = np.array([members.size for members in found.axes])
    return replace(found, block=np.where(sizes >= block, float(block), 1.0))


def merged(parts: Iterable[tuple[float, Terms]]) -> Terms:
    """Return the sum of terms, each times a number."""
    axes: list[Factor] = [np.zeros(0, np.int64)]
    place: dict[tuple[bytes, float], int] = {}
    rows: dict[tuple[int, ...], float] = {(): 0.0}
    blocks = [1.0]
    for weight, each in parts:
        if not weight:
            continue
        numbers = [0]
        for members, block in zip(each.axes[1:], each.block[1:].tolist(), strict=True):
            key = (members.tobytes(), block)
            if key not in place:
                place[key] = len(axes)
                axes.append(members)
                blocks.append(block)
            numbers.append(place[key])
        for own, row in zip(each.weight.tolist(), each.index.tolist(), strict=True):
            factors = tuple(sorted((numbers[i] for i in row if i), reverse=True))
            rows[factors] = rows.get(factors, 0.0) + weight * own
    width = max(1, *(len(row) for row in rows))
    index = np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int64)
    return Terms(tuple(axes), index, np.array(list(rows.values()), np.float64), np.array(blocks))


@dataclass(frozen=True)
class Rates:
    """What one call, multiply-accumulate, element moved and weight cost, in milliseconds."""

    calls: float = 0.0
    macs: float = 0.0
    moved: float = 0.0
    weights: float = 0.0

    def cost(self, parts: Parts) -> Iterable[tuple[float, Terms]]:
        """Yield the terms of a node with what each costs."""
        return ((getattr(self, kind), parts[kind]) for kind in KINDS)


def fitted(amounts: FloatArray, times: FloatArray) -> FloatArray:
    """Return what each kind of work costs: float64 [K], not negative.

    amounts: float64 [P, K], of each kind at P widths. times: float64 [P], what was measured there. The least sum of
    squared relative errors; with K kinds one of the 2^K least squares over some of them is it.
    """
    scale = np.maximum(amounts.max(0, initial=0.0), 1e-30)
    weight = 1 / np.maximum(times, 1e-12)
    a, b = amounts / scale * weight[:, None], times * weight
    best, least = np.zeros(amounts.shape[1]), float(b @ b)
    for number in range(1, amounts.shape[1] + 1):
        for kinds in itertools.combinations(range(amounts.shape[1]), number):
            found, *_ = np.linalg.lstsq(a[:, kinds], b, rcond=1e-9)
            error = b - a[:, kinds] @ found
            if (found >= 0).all() and float(error @ error) < MUST_GAIN * least - 1e-12 * len(b):
                best, least = np.zeros(amounts.shape[1]), float(error @ error)
                best[list(kinds)] = found
    result: FloatArray = best / scale
    return result
