"""Distillation: outputs, or tensors inside, that are to be what a teacher says (Hinton, Vinyals and Dean, 2015)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnx_oto.errors import DataError, UnsupportedError, UsageError
from onnx_oto.losses.loss import Array, Floats, Judged, Kind, Target
from onnx_oto.losses.rows import as_rows
from onnx_oto.model import Shape
from onnx_oto.model.graph.writer import GraphWriter

TEMPERATURE = 2.0
_LEAST = 1e-12
_SHARE = 0.01
"""Of the mean square of a tensor, what its variance counts as at least: a tenth of its size is a large error."""


def teacher_target(number: int) -> str:
    """Return the name of the target that holds what the teacher says of tensor `number`."""
    return f"teacher.{number}"


@dataclass(frozen=True)
class Match:
    """How one tensor is compared with the teacher's.

    axis: of the classes, whose scores are compared as chances; None: numbers are compared. weight: of its part. scale:
    what squared errors of numbers are divided by, the teacher's variance, so that parts of other units weigh alike.
    answers: numbers are compared in front of a final Sigmoid, which has no slope where it is sure. shown: whether
    metrics see it.
    """

    axis: int | None = None
    weight: float = 1.0
    scale: float = 1.0
    answers: bool = False
    shown: bool = True


@dataclass(frozen=True)
class Distill:
    """A loss (see `Loss`): for every sample the sum over the tensors i of weight[i] * part[i], where part is

    classes   T^2 KL(p || q), mean over places, with p = softmax(t / T), q = softmax(z / T) of teacher and model
    numbers   (z - t)^2 / scale, mean over the elements

    T^2 keeps gradients alike whatever the temperature T is. Where the model ends in Softmax or LogSoftmax over the
    classes, the loss reads what that reads; so it may in front of a final Sigmoid. It is 0 for a model that says what
    the teacher says. An entry is a sample.
    """

    temperature: float = TEMPERATURE
    matches: tuple[Match, ...] = (Match(axis=1),)

    name: ClassVar[str] = "distill"
    text: ClassVar[str] = (
        "what a teacher says (`--teacher`): scores of classes as chances, softened by the temperature, other numbers "
        "by squared errors in units of the teacher's variance; no targets in the data"
    )
    per_sample: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise UsageError(f"temperature of distill is {self.temperature:g}: give a positive number")

    @property
    def outputs(self) -> int:
        """See `Loss.outputs`."""
        return len(self.matches)

    @property
    def compares(self) -> Kind:
        """Classes where all tensors that are shown are scores of classes."""
        return "teacher-values" if any(m.axis is None for m in self.matches if m.shown) else "teacher-classes"

    @property
    def metric(self) -> str:
        """See `Loss.metric`."""
        return "agreement" if self.compares == "teacher-classes" else "relative-error"

    def activations(self, output: int) -> Mapping[str, int | None]:
        """See `Loss.activations`."""
        match = self.matches[output]
        if match.axis is None:
            return {"Sigmoid": None} if match.answers else {}
        return {"Softmax": match.axis, "LogSoftmax": match.axis}

    def settle(self, shapes: Sequence[Shape | None], given: Mapping[str, tuple[int, ...]]) -> Distill:
        """Return itself: what is compared as classes is said by whoever knows the graph."""
        return self

    def targets(self, shapes: Sequence[tuple[int, ...]]) -> dict[str, Target]:
        """Return floats like every tensor. Raises UnsupportedError where there are no two classes."""
        for shape, match in zip(shapes, self.matches, strict=True):
            if match.axis is not None and (not 0 < match.axis < len(shape) or shape[match.axis] < 2):
                raise UnsupportedError(
                    f"the output has shape {list(shape)}: distill finds no scores of at least 2 classes on axis "
                    f"{match.axis}; compare numbers with --teacher-match values"
                )
        return {
            teacher_target(at): Target(np.dtype(np.float32), tuple(shape)) for at, shape in enumerate(shapes)
        }

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
        parts = []
        for at, (output, shape, match) in enumerate(zip(outputs, shapes, self.matches, strict=True)):
            said, each = targets[teacher_target(at)], math.prod(shape) // samples
            if match.axis is None:
                error = graph.emit("Sub", output, said)
                part = graph.emit("Mul", error, error)
                factor = match.weight / (match.scale * each)
            else:
                part = self._divergence(graph, output, said, shape, match.axis)
                factor = match.weight * self.temperature**2 * shape[match.axis] / each
            total = graph.emit("ReduceSum", part, keepdims=0)
            parts.append(graph.emit("Mul", total, graph.value(factor)))
        whole = parts[0]
        for part in parts[1:]:
            whole = graph.emit("Add", whole, part)
        return graph.emit("Mul", whole, weight)

    def _divergence(
        self, graph: GraphWriter, output: str, said: str, shape: tuple[int, ...], axis: int
    ) -> str:
        """Append p (log p - log q), of rows."""
        cold = graph.value(1 / self.temperature)
        own, theirs = (graph.emit("Mul", as_rows(graph, each, shape, axis), cold) for each in (output, said))
        difference = graph.emit(
            "Sub", graph.emit("LogSoftmax", theirs, axis=1), graph.emit("LogSoftmax", own, axis=1)
        )
        return graph.emit("Mul", graph.emit("Softmax", theirs, axis=1), difference)

    def count(self, targets: Mapping[str, Array], samples: int) -> float:
        """Return the number of samples."""
        return float(samples)

    def judge(self, outputs: Sequence[Array], targets: Mapping[str, Array], samples: int) -> Judged:
        """See `Loss.judge`. Where several tensors are numbers, metrics see them in units of the teacher's spread."""
        found = [np.asarray(output, np.float64) for output in outputs]
        said = [np.asarray(targets[teacher_target(at)], np.float64) for at in range(len(found))]
        for output, target in zip(found, said, strict=True):
            if output.shape != target.shape:
                raise DataError(
                    f"output {list(output.shape)} and teacher {list(target.shape)}: the shapes must agree"
                )
        losses = np.zeros(samples)
        for output, target, match in zip(found, said, self.matches, strict=True):
            losses += match.weight * self._part(output, target, match)
        ones = np.ones(samples)
        shown = [at for at, match in enumerate(self.matches) if match.shown]
        if self.compares == "teacher-classes":
            axes = {at: self.matches[at].axis or 1 for at in shown}
            scores = [_rows(found[at], axis) for at, axis in axes.items()]
            labels = [_rows(said[at], axis).argmax(axis=1) for at, axis in axes.items()]
            return Judged(losses, ones, _stacked(scores), np.concatenate(labels))
        if len(shown) == 1:
            return Judged(losses, ones, found[shown[0]], said[shown[0]])
        return Judged(losses, ones, self._in_units(found), self._in_units(said))

    def _part(self, output: Floats, target: Floats, match: Match) -> Floats:
        """Return the part of one tensor for every sample."""
        samples = len(output)
        if match.axis is None:
            squares: Floats = ((output - target) ** 2).reshape(samples, -1).mean(axis=1) / match.scale
            return squares
        logs, wanted = (_log_softmax(_rows(x, match.axis) / self.temperature) for x in (output, target))
        each = (np.exp(wanted) * (wanted - logs)).sum(axis=1).reshape(samples, -1)
        part: Floats = self.temperature**2 * each.mean(axis=1)
        return part

    def _in_units(self, arrays: Sequence[Floats]) -> Floats:
        """Return all numbers of every sample in one row [n, ...]."""
        return np.concatenate(
            [
                array.reshape(len(array), -1) / np.sqrt(match.scale)
                for array, match in zip(arrays, self.matches, strict=True)
                if match.shown
            ],
            axis=1,
        )


def distill(temperature: float = TEMPERATURE) -> Distill:
    """Return the loss for one tensor of scores [N, K]; `pipeline.teaching` says what else is compared, and how."""
    return Distill(temperature)


class Spread:
    """The variance of a tensor over samples, mean over its elements: joined part by part (Chan and others, 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: Floats = np.zeros(0)
        self._squares: Floats = np.zeros(0)

    def add(self, values: Array) -> None:
        """Take some samples [n, ...]."""
        rows = np.asarray(values, np.float64).reshape(len(values), -1)
        if not self.count:
            self._mean, self._squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        mean, new = rows.mean(axis=0), len(rows)
        shift, total = mean - self._mean, self.count + new
        self._squares += ((rows - mean) ** 2).sum(axis=0) + shift**2 * (self.count * new / total)
        self._mean += shift * (new / total)
        self.count = total

    @property
    def variance(self) -> float:
        """The variance, a hundredth of the mean square where it is less, and 1 where all is 0."""
        if not self.count:
            return 1.0
        variance = float(self._squares.mean() / self.count)
        level = variance + float((self._mean**2).mean())
        return max(variance, _SHARE * level) if level > _LEAST else 1.0


def _rows(x: Floats, axis: int) -> Floats:
    """Return [M, K] with the classes last."""
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])


def _log_softmax(rows: Floats) -> Floats:
    shifted = rows - rows.max(axis=1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def _stacked(scores: Sequence[Floats]) -> Floats:
    """Return rows of several numbers of classes below each other; a class that is not there is never the highest."""
    most = max(rows.shape[1] for rows in scores)
    padded = [np.pad(rows, [(0, 0), (0, most - rows.shape[1])], constant_values=-np.inf) for rows in scores]
    return np.concatenate(padded)
