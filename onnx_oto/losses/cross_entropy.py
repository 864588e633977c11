"""Cross-entropy between logits and class labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from onnx_oto.errors import DataError, UnsupportedError, UsageError
from onnx_oto.losses.loss import DATA, Array, Judged, Kind, Target
from onnx_oto.losses.rows import as_rows
from onnx_oto.model import Shape
from onnx_oto.model.graph.writer import GraphWriter


@dataclass(frozen=True)
class CrossEntropy:
    """A loss (see `Loss`): -log softmax(z)[label] per label, with the classes on one axis of the output.

    ignore: the label that counts for nothing, in the loss and in every metric. It need not be a class: -100 is what
    PyTorch users write, 255 is common in masks, and the number of a padding token is a class.
    smoothing: share e of the label that is spread over all K classes: (1 - e) nll + e mean_k(-log softmax(z)[k]).
    class_axis: of the output; None: axis 1, unless the shape of the labels fits the last axis alone ([N, L, K] with
    labels [N, L]).

    Where the model ends in Softmax or LogSoftmax over the classes, the loss reads what that reads.
    """

    ignore: int = -100
    smoothing: float = 0.0
    class_axis: int | None = None

    name: ClassVar[str] = "cross-entropy"
    text: ClassVar[str] = "class labels; a final softmax is the loss's own"
    metric: ClassVar[str] = "accuracy"
    compares: ClassVar[Kind] = "classes"
    outputs: ClassVar[int] = 1
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UsageError(
                f"smoothing of cross-entropy is {self.smoothing:g}: give a share from 0 to below 1"
            )
        if self.class_axis == 0:
            raise UsageError("class_axis of cross-entropy is 0, the batch: give the axis of the classes")

    def activations(self, output: int) -> Mapping[str, int | None]:
        """See `Loss.activations`."""
        axis = 1 if self.class_axis is None else self.class_axis
        return {"Softmax": axis, "LogSoftmax": axis}

    def settle(self, shapes: Sequence[Shape | None], given: Mapping[str, tuple[int, ...]]) -> CrossEntropy:
        """Return the loss with the axis of the classes that the labels fit (see the class)."""
        shape, labels = shapes[0], given.get(DATA)
        if self.class_axis is not None or shape is None or labels is None or len(shape) < 3:
            return self
        first, last = ((*shape[1:axis], *shape[axis + 1 :]) for axis in (1, len(shape) - 1))
        return replace(self, class_axis=-1 if _fits(labels, last) and not _fits(labels, first) else 1)

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        """Return integer labels, one for every place of the output besides the classes."""
        shape = shapes[0]
        axis = self._axis(len(shape))
        classes = shape[axis] if axis is not None else 0
        if axis is None or classes < 2:
            raise UnsupportedError(
                f"the output has shape {list(shape)}: cross-entropy needs at least 2 classes on axis "
                f"{1 if self.class_axis is None else self.class_axis}; use 'bce-with-logits' for one logit per "
                "sample, or 'mse' for a regression"
            )
        rest = (*shape[:axis], *shape[axis + 1 :])
        return {DATA: Target(np.dtype(np.int64), rest, classes, self.ignore)}

    def append(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
        weight: str,
        samples: int,
    ) -> str:
        """See `Loss.append`: an entry is a label that is not ignored."""
        scores, labels, shape = outputs[0], targets[DATA], shapes[0]
        axis = self._axis(len(shape)) or 1
        if axis != 1:
            scores, labels, shape = _rows(graph, scores, labels, shape, axis)
        loss = graph.emit_many(
            "SoftmaxCrossEntropyLoss", [scores, labels], 2, reduction="sum", ignore_index=self.ignore
        )[0]  # its gradient reads the second output
        if self.smoothing:
            spread = graph.emit(
                "Mul", self._spread(graph, scores, labels), graph.value(-self.smoothing / shape[1])
            )
            loss = graph.emit("Add", graph.emit("Mul", loss, graph.value(1 - self.smoothing)), spread)
        return graph.emit("Mul", loss, weight)

    def append_each(
        self,
        graph: GraphWriter,
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        targets: Mapping[str, str],
    ) -> str:
        """See `Weighable.append_each`."""
        scores, labels, shape = outputs[0], targets[DATA], shapes[0]
        axis = self._axis(len(shape)) or 1
        entries = (*shape[:axis], *shape[axis + 1 :])
        if axis != 1:
            scores, labels, shape = _rows(graph, scores, labels, shape, axis)
        loss = graph.emit_many(
            "SoftmaxCrossEntropyLoss", [scores, labels], 2, reduction="none", ignore_index=self.ignore
        )[0]
        if self.smoothing:
            spread = graph.emit(
                "Mul", self._spreads(graph, scores, labels), graph.value(-self.smoothing / shape[1])
            )
            loss = graph.emit("Add", graph.emit("Mul", loss, graph.value(1 - self.smoothing)), spread)
        return loss if axis == 1 else graph.reshape(loss, entries)

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        """Return the number of labels that are not ignored."""
        return float(np.count_nonzero(targets[DATA] != self.ignore))

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        """See `Loss.judge`."""
        output, labels = np.asarray(outputs[0], np.float64), np.asarray(targets[DATA])
        axis = self._axis(output.ndim)
        if axis is None or labels.shape != (*output.shape[:axis], *output.shape[axis + 1 :]):
            raise DataError(
                f"output {list(output.shape)} and target {list(labels.shape)}: one score per class is needed"
            )
        scores = np.moveaxis(output, axis, -1).reshape(-1, output.shape[axis])
        flat = labels.reshape(-1).astype(np.int64)
        counted = flat != self.ignore
        values = np.zeros(len(flat))
        values[counted] = self._values(scores[counted], flat[counted])
        weights = counted.reshape(samples, -1).sum(axis=1).astype(np.float64)
        losses = values.reshape(samples, -1).sum(axis=1) / np.maximum(weights, 1.0)
        return Judged(losses, weights, scores[counted], flat[counted])

    def _axis(self, rank: int) -> int | None:
        """Return the axis of the classes of an output, None where it has no such axis."""
        axis = 1 if self.class_axis is None else self.class_axis
        axis += rank if axis < 0 else 0
        return axis if 0 < axis < rank else None

    def _spread(self, graph: GraphWriter, scores: str, labels: str) -> str:
        """Append the sum of log softmax over all classes of the labels that count; scores [N, K, ...]."""
        return graph.emit("ReduceSum", self._spreads(graph, scores, labels), keepdims=0)

    def _spreads(self, graph: GraphWriter, scores: str, labels: str) -> str:
        """Append the sums of log softmax over the classes: [N, ...], 0 where a label is ignored."""
        logs = graph.emit("ReduceSum", graph.emit("LogSoftmax", scores, axis=1), axes=[1], keepdims=0)
        ignored = graph.emit("Equal", labels, graph.value(self.ignore, np.int64))
        counted = graph.emit("Cast", graph.emit("Not", ignored), to=1)
        return graph.emit("Mul", logs, counted)

    def _values(self, scores: Array, labels: Array) -> Array:
        """Return the loss of every label: scores float64 [M, K], labels [M] -> [M]."""
        shifted = scores - scores.max(axis=1, keepdims=True)
        normal = np.log(np.exp(shifted).sum(axis=1))
        picked = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
        spread = shifted.mean(axis=1) if self.smoothing else picked
        values: Array = normal - (1 - self.smoothing) * picked - self.smoothing * spread
        return values


def _fits(labels: tuple[int, ...], rest: Shape) -> bool:
    """Say whether labels of one sample have the shape that is left of an output; an open size takes any.

    Axes of size 1 at the end may come and go, as they may in the data.
    """
    core = tuple(labels)
    while len(core) > len(rest) and core[-1] == 1:
        core = core[:-1]
    return len(core) == len(rest) and all(
        isinstance(size, str) or size == found for size, found in zip(rest, core, strict=True)
    )


def _rows(
    graph: GraphWriter, scores: str, labels: str, shape: tuple[int, ...], axis: int
) -> tuple[str, str, tuple[int, int]]:
    """Return scores [M, K] and labels [M] for classes on any axis, and the shape of the scores."""
    flat = (math.prod(shape) // shape[axis], shape[axis])
    return as_rows(graph, scores, shape, axis), graph.reshape(labels, flat[:1]), flat
