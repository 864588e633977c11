"""Losses that are the mean of one number per element: output and target have one shape, and every element counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from onnx_oto.errors import DataError
from onnx_oto.losses.loss import DATA, Array, Floats, Judged, Kind, Target
from onnx_oto.model import Shape
from onnx_oto.model.graph.writer import GraphWriter


@dataclass(frozen=True)
class Elementwise:
    """A loss (see `Loss`) made of one function twice: `write` appends it to a graph, `value` computes it in float64.

    Both take output and target of one shape and return a number per element. options: what they were made with, which
    tells two losses of one name apart. contains: see `Loss.activations`. low, high: bounds of the target.
    """

    name: str
    text: str
    write: Callable[[GraphWriter, str, str], str] = field(compare=False)
    value: Callable[[Floats, Floats], Floats] = field(compare=False)
    options: Mapping[str, float] = field(default_factory=dict)
    metric: str = "loss"
    compares: Kind = "values"
    outputs: int = 1
    per_sample: bool = True
    contains: Mapping[str, int | None] = field(default_factory=dict)
    low: float = -np.inf
    high: float = np.inf

    def activations(self, output: int) -> Mapping[str, int | None]:
        """See `Loss.activations`."""
        return self.contains

    def settle(self, shapes: Sequence[Shape | None], given: Mapping[str, tuple[int, ...]]) -> Elementwise:
        """Return itself: nothing is open."""
        return self

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        """Return the target of the shape of the output."""
        return {DATA: Target(np.dtype(np.float32), tuple(shapes[0]), low=self.low, high=self.high)}

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        """See `Loss.append`."""
        values = self.write(graph, outputs[0], targets[DATA])
        return graph.emit("Mul", graph.emit("ReduceSum", values, keepdims=0), weight)

    def append_each(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
    ) -> str:
        """See `Weighable.append_each`."""
        return self.write(graph, outputs[0], targets[DATA])

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        """Return the number of elements."""
        return float(targets[DATA].size)

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        """See `Loss.judge`."""
        output, target = (np.asarray(array, np.float64) for array in (outputs[0], targets[DATA]))
        if output.shape != target.shape:
            raise DataError(
                f"output {list(output.shape)} and target {list(target.shape)}: the shapes must agree"
            )
        values = self.value(output, target).reshape(len(output), -1)
        weights = np.full(len(values), float(values.shape[1]))
        return Judged(values.mean(axis=1), weights, output, target)
