"""What may go and what it costs, found without `zigs.units` and `zigs.terms`: by the constraints, and by counting.

Lanes are alike when they lie on the same axes, equally often, in the same dimension and under the same constraints. How
many of every class go is all that matters for what is left, so that numbers per class are enumerated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.zigs import Analysis

Counts = tuple[int, ...]
"""How many lanes of every class are dropped."""


@dataclass(frozen=True, eq=False)
class Oracle:
    """The constraints of an analysis on numbers per class. places: how often each weight's elements are multiplied."""

    analysis: Analysis
    places: dict[str, int]

    @cached_property
    def classes(self) -> list[IntArray]:
        """The lanes of every class."""
        found: dict[tuple[object, ...], list[int]] = {}
        for number, dimension in enumerate(self.analysis.prunable):
            for lane in dimension.lanes.tolist():
                kind: list[object] = [number]
                kind += [tuple((rows == lane).sum(1).tolist()) for rows, _ in self.analysis.lanes.balanced]
                kind += [bool((lanes == lane).any()) for lanes in self.analysis.nonempty]
                kind += [int((lanes == lane).sum()) for lanes in self._axes]
                found.setdefault(tuple(kind), []).append(lane)
        return [np.array(lanes) for lanes in found.values()]

    @cached_property
    def _axes(self) -> list[IntArray]:
        trace = self.analysis.trace
        return [
            self.analysis.lanes.of_label[labels].reshape(-1)
            for param, axes in trace.parameters.items()
            for axis in axes
            if (labels := trace.labels_of(param, axis)) is not None
        ]

    def of_drop(self, drop: BoolArray) -> Counts:
        """Return how many lanes of every class go."""
        return tuple(int(drop[lanes].sum()) for lanes in self.classes)

    def drop(self, counts: Counts) -> BoolArray:
        """Return lanes to drop, the first ones of every class."""
        drop = np.zeros(self.analysis.lanes.count, bool)
        for lanes, count in zip(self.classes, counts, strict=True):
            drop[lanes[:count]] = True
        return drop

    def allows(self, counts: Counts) -> bool:
        """Return whether every constraint holds when so many go."""
        return self.allows_drop(self.drop(counts))

    def allows_drop(self, drop: BoolArray) -> bool:
        """Return whether every constraint holds: no dimension and no part of an axis is emptied, rows are equal."""
        whole = (*self.analysis.nonempty, *(d.lanes for d in self.analysis.prunable))
        if any(drop[lanes].all() for lanes in whole) or (drop & ~self._prunable).any():
            return False
        for rows, _ in self.analysis.lanes.balanced:
            gone = drop[rows].sum(1)
            if (gone != gone[0]).any() or gone[0] == rows.shape[1]:
                return False
        return True

    @cached_property
    def _prunable(self) -> BoolArray:
        result = np.zeros(self.analysis.lanes.count, bool)
        for dimension in self.analysis.prunable:
            result[dimension.lanes] = True
        return result & ~self.analysis.lanes.frozen

    @property
    def is_plain(self) -> bool:
        """Whether lanes of a dimension that lie on other axes are told apart by constraints that balance them.

        Else which of them go is said by their scores, and what the others would cost is nobody's question.
        """
        of_lane = {int(lane): number for number, lanes in enumerate(self.classes) for lane in lanes}
        rows = [tuple(map(tuple, rows.tolist())) for rows, _ in self.analysis.lanes.balanced]
        for dimension in self.analysis.prunable:
            kinds: dict[tuple[object, ...], set[int]] = {}
            for lane in dimension.lanes.tolist():
                inside = tuple(tuple(lane in row for row in each) for each in rows)
                kinds.setdefault(inside, set()).add(of_lane[lane])
            if any(len(found) > 1 for found in kinds.values()):
                return False
        return True

    @property
    def number(self) -> int:
        """How many combinations there are, those that are not allowed too."""
        return math.prod(lanes.size + 1 for lanes in self.classes)

    @cached_property
    def every(self) -> list[Counts]:
        """All combinations that are allowed."""
        return [
            c for c in itertools.product(*(range(lanes.size + 1) for lanes in self.classes)) if self.allows(c)
        ]

    def cost(self, counts: Counts) -> dict[str, float]:
        """Return parameters and, of weights with places, multiply-accumulates, by counting what stays of every axis."""
        drop = self.drop(counts)
        of_label, trace = self.analysis.lanes.of_label, self.analysis.trace
        params = macs = 0
        padded = {
            name
            for node in self.analysis.graph.nodes
            if node.op in ("LayerNormalization", "SkipLayerNormalization")
            for name in node.inputs[1:]
        }
        for name, tensor in self.analysis.graph.initializers.items():
            elements = 1
            for axis, size in enumerate(tensor.dims):
                labels = trace.labels_of(name, axis) if axis in trace.parameters.get(name, {}) else None
                if labels is None or name in padded:
                    elements *= size
                else:  # of the groups of a convolution those that stay all have equally many
                    elements *= int((~drop[of_label[labels.reshape(-1, labels.shape[-1])]]).sum(1).max())
            params += elements if name in self.analysis.counted_parameters else 0
            macs += elements * self.places.get(name, 0)
        return {"params": params, "macs": macs}

    def less(self, counts: Counts) -> Iterator[Counts]:
        """Yield what is allowed with a little less dropped: one lane, or one of each of a few classes."""
        single = [c for c in range(len(counts)) if counts[c]]
        for size in range(1, min(len(single), 4) + 1):
            for classes in itertools.combinations(single, size):
                fewer = tuple(n - (c in classes) for c, n in enumerate(counts))
                if self.allows(fewer):
                    yield fewer
