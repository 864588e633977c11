"""The loss of a task and that of a teacher, added up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from onnx_oto.errors import UsageError
from onnx_oto.losses.distill import Distill
from onnx_oto.losses.loss import Array, Judged, Kind, Loss, Target
from onnx_oto.model import Shape
from onnx_oto.model.graph.writer import GraphWriter

SHARE = "task.share"
"""A target that `shares` makes: float32 [n], n / the entries of the task's loss that count in the whole batch."""


@dataclass(frozen=True)
class Blend:
    """A loss (see `Loss`): (1 - weight) * task + weight * teacher, the mean of each over the whole batch.

    at: which outputs the teacher's part reads, by their numbers; the task's are the first ones. Both read the same
    tensor of an output that they share, the one that the task reads. What is compared is what the task compares.
    """

    task: Loss
    teacher: Distill
    at: tuple[int, ...]
    weight: float = 0.5

    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.task.per_sample:
            raise UsageError(
                f"the loss {self.task.name!r} is one number for a batch, and a teacher is compared sample by sample: "
                "leave --teacher out"
            )

    @property
    def name(self) -> str:
        """Both names."""
        return f"{self.task.name} + {self.teacher.name}"

    @property
    def text(self) -> str:
        """See `Loss.text`."""
        return f"{self.task.text}; and {self.teacher.text}"

    @property
    def metric(self) -> str:
        """The task's."""
        return self.task.metric

    @property
    def compares(self) -> Kind:
        """What the task compares."""
        return self.task.compares

    @property
    def outputs(self) -> int:
        """See `Loss.outputs`."""
        return max(self.task.outputs, *(number + 1 for number in self.at))

    def activations(self, output: int) -> Mapping[str, int | None]:
        """See `Loss.activations`: the task's where it reads the output."""
        if output < self.task.outputs:
            return self.task.activations(output)
        return self.teacher.activations(self.at.index(output))

    def settle(self, shapes: Sequence[Shape | None], given: Mapping[str, tuple[int, ...]]) -> Blend:
        """Return the loss with what the task's leaves open decided."""
        return replace(self, task=self.task.settle(shapes[: self.task.outputs], given))

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        """Return the targets of both, and SHARE."""
        share = Target(np.dtype(np.float32), (shapes[0][0],))
        own = self.task.targets(shapes[: self.task.outputs])
        return {**own, **self.teacher.targets([shapes[number] for number in self.at]), SHARE: share}

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        """See `Loss.append`: entries are samples, so the sum of the task is scaled from its entries to samples."""
        scaled = graph.emit("Mul", weight, graph.reshape(_first(graph, targets[SHARE]), ()))
        count = self.task.outputs
        own = self.task.append(graph, outputs[:count], shapes[:count], targets, scaled, samples)
        read = [outputs[number] for number in self.at]
        theirs = self.teacher.append(
            graph, read, [shapes[number] for number in self.at], targets, weight, samples
        )
        parts = [
            graph.emit("Mul", part, graph.value(factor))
            for part, factor in ((own, 1 - self.weight), (theirs, self.weight))
        ]
        return graph.emit("Add", *parts)

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        """Return the number of samples."""
        return float(samples)

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        """See `Loss.judge`."""
        own = self.task.judge(outputs[: self.task.outputs], targets, samples)
        theirs = self.teacher.judge([outputs[number] for number in self.at], targets, samples)
        counted = own.weights.sum()
        scaled = own.losses * own.weights * (samples / counted if counted else 0.0)
        losses = (1 - self.weight) * scaled + self.weight * theirs.losses
        return own._replace(losses=losses, weights=np.ones(samples))

    def shares(self, targets: Mapping[str, Array], samples: int) -> Array:
        """Return the target SHARE for a batch with these targets of the task."""
        counted = self.task.count(targets, samples)
        return np.full(samples, samples / counted if counted else 0.0, np.float32)


def _first(graph: GraphWriter, x: str) -> str:
    return graph.emit("Slice", x, starts=[0], ends=[1], axes=[0])
