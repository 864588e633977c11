"""The model's own loss: an output that is one number for the whole batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.losses.loss import Array, Judged, Kind, Target
from onnx_oto.model import Shape
from onnx_oto.model.graph.writer import GraphWriter


@dataclass(frozen=True)
class OwnLoss:
    """A loss (see `Loss`) that is the output itself, taken as a mean over the samples of the batch."""

    name: ClassVar[str] = "output"
    text: ClassVar[str] = "the model's output is the loss itself: one number per batch, no targets"
    metric: ClassVar[str] = "loss"
    compares: ClassVar[Kind] = "nothing"
    outputs: ClassVar[int] = 1
    per_sample: ClassVar[bool] = False

    def activations(self, output: int) -> Mapping[str, int | None]:
        """Return none."""
        return {}

    def settle(self, shapes: Sequence[Shape | None], given: Mapping[str, tuple[int, ...]]) -> OwnLoss:
        """Return itself: nothing is open."""
        return self

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        """Return no target; raises UnsupportedError unless the output is one number."""
        if math.prod(shapes[0]) != 1:
            raise UnsupportedError(
                f"the output has shape {list(shapes[0])}: the loss 'output' needs one number per batch"
            )
        return {}

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        """See `Loss.append`: an entry is a sample, each has the value of the output."""
        whole = graph.emit("Mul", graph.reshape(outputs[0], ()), graph.value(samples))
        return graph.emit("Mul", whole, weight)

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        """Return the number of samples."""
        return float(samples)

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        """See `Loss.judge`: every sample has the value of the output."""
        value = float(np.asarray(outputs[0], np.float64).mean())
        return Judged(np.full(samples, value), np.ones(samples))
