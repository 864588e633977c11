"""Two losses as a stranger would write them: one reads two outputs, one a target that the data do not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from onnx_oto.losses import Judged, Target
from onnx_oto.model.graph.writer import GraphWriter

Array = np.ndarray[Any, Any]
FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class Both:
    """(a - y)^2 + share * (b - y)^2 for the outputs a and b, as a model with an auxiliary head is trained."""

    share: float = 0.5

    name: ClassVar[str] = "both"
    text: ClassVar[str] = "squared error of two heads"
    metric: ClassVar[str] = "loss"
    compares: ClassVar[str] = "values"
    outputs: ClassVar[int] = 2
    per_sample: ClassVar[bool] = True

    def activations(self, output: int) -> Mapping[str, int | None]:
        return {}

    def settle(self, shapes: Sequence[Any], given: Mapping[str, Any]) -> Both:
        return self

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        return {"y": Target(FLOAT, shapes[0])}

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        sums = []
        for output in outputs:
            error = graph.emit("Sub", output, targets["y"])
            sums.append(graph.emit("ReduceSum", graph.emit("Mul", error, error), keepdims=0))
        second = graph.emit("Mul", sums[1], graph.value(self.share))
        return graph.emit("Mul", graph.emit("Add", sums[0], second), weight)

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        return float(targets["y"].size)

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        a, b, y = (np.asarray(x, np.float64) for x in (*outputs, targets["y"]))
        values = ((a - y) ** 2 + self.share * (b - y) ** 2).reshape(samples, -1)
        return Judged(values.mean(axis=1), np.full(samples, float(values.shape[1])), a, y)


@dataclass(frozen=True)
class Distilled:
    """Cross-entropy between softmax(teacher / T) and softmax(z / T); "teacher" are another model's logits."""

    temperature: float = 2.0

    name: ClassVar[str] = "distilled"
    text: ClassVar[str] = "agree with a teacher"
    metric: ClassVar[str] = "loss"
    compares: ClassVar[str] = "nothing"
    outputs: ClassVar[int] = 1
    per_sample: ClassVar[bool] = True

    def activations(self, output: int) -> Mapping[str, int | None]:
        return {"Softmax": 1}

    def settle(self, shapes: Sequence[Any], given: Mapping[str, Any]) -> Distilled:
        return self

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        return {"teacher": Target(FLOAT, shapes[0])}

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        cold = graph.value(1 / self.temperature)
        logs = graph.emit("LogSoftmax", graph.emit("Mul", outputs[0], cold), axis=1)
        wanted = graph.emit("Softmax", graph.emit("Mul", targets["teacher"], cold), axis=1)
        total = graph.emit("ReduceSum", graph.emit("Mul", logs, wanted), keepdims=0)
        return graph.emit("Mul", graph.emit("Neg", total), weight)

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        return float(samples)

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        student, teacher = (
            np.asarray(x, np.float64) / self.temperature for x in (outputs[0], targets["teacher"])
        )
        logs = student - np.log(np.exp(student).sum(axis=1, keepdims=True))
        wanted = np.exp(teacher) / np.exp(teacher).sum(axis=1, keepdims=True)
        return Judged(-(wanted * logs).sum(axis=1), np.ones(samples))
