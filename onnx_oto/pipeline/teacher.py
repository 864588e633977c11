"""The teacher: a model in inference form that says, of the very batch that is trained on, what is to come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx

from onnx_oto.data import Batch, Source
from onnx_oto.errors import DataError, OtoError, UnsupportedError, UsageError
from onnx_oto.losses import Blend, Loss, Target, teacher_target
from onnx_oto.losses.blend import SHARE
from onnx_oto.losses.distill import Spread
from onnx_oto.losses.reading import read_each
from onnx_oto.model.normal.serving import Serving, data_inputs
from onnx_oto.model.normal.serving import serving as served_by
from onnx_oto.pipeline.aim import Aim, giving, lesson_of, scaled
from onnx_oto.pipeline.finishing import (
    Arrays,
    Predict,
    as_declared,
    batch_size,
    predictor,
    served_lean,
    trimmed,
)
from onnx_oto.pipeline.opening import Opened, open_model
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.runtime.limits import limited
from onnx_oto.runtime.runner import first_line
from onnx_oto.runtime.side_by_side import SideBySide
from onnx_oto.runtime.worker import JobFailed
from onnx_oto.training.evaluate import Array

CALIBRATED = 256
"""Samples that the teacher's variance is taken of."""
BATCH = 32
_FEW = 2


@dataclass(frozen=True, eq=False)
class Teacher:
    """A provider (see `training.evaluate.Provider`) of the targets that come from a teacher.

    run: from a batch by the names of the model's inputs to what is compared. names: of the tensors, for messages.
    """

    loss: Loss
    run: Predict
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...] = field(default=())

    def __call__(self, batch: Batch) -> Mapping[str, Array]:
        """Return what it says of a batch; what the batch holds already is not asked for again."""
        found: dict[str, Array] = {}
        if teacher_target(0) not in batch.targets:
            found = {teacher_target(at): said for at, said in enumerate(self.say(batch))}
        if isinstance(self.loss, Blend):
            found[SHARE] = self.loss.shares(batch.targets, len(batch.rows))
        return found

    def say(self, batch: Batch) -> list[Array]:
        """Return the tensors, float32 [n, ...]. Raises DataError naming a sample of which it says no number."""
        said = [np.ascontiguousarray(array, np.float32) for array in self.run(batch.inputs)]
        for name, array in zip(self.names, said, strict=True):
            finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
            if not finite.all():
                row = batch.rows[np.flatnonzero(~finite)[0]]
                raise DataError(
                    f"the teacher's '{name}' is not finite for sample {row}: leave the sample out, or give another "
                    "teacher (--teacher) or tensor (--teacher-tensor)"
                )
        return said


def provided(targets: Mapping[str, Target]) -> dict[str, Target]:
    """Return the targets that are no teacher's: those that the data must hold."""
    return {
        name: t
        for name, t in targets.items()
        if name != SHARE and not name.startswith(teacher_target(0)[:-1])
    }


def teacher_of(
    aim: Aim,
    opened: Opened,
    serving: Serving,
    targets: Mapping[str, Target],
    examples: Source,
    options: TrainOptions,
    parts: int,
) -> Teacher:
    """Return the teacher of an aim that has one, after it was tried on two samples in a process of its own.

    targets: of the loss. parts: how many parts of a batch run side by side. Raises UsageError for a file that does not
    fit, and UnsupportedError, CrashedError or LimitError for a model that does not run.
    """
    found = lesson_of(aim.loss)
    assert found is not None
    _, at = found
    names = tuple(aim.outputs[number] for number in at)
    activations = [aim.loss.activations(number) for number in at]
    renamed: dict[str, str] = {}
    if isinstance(aim.teacher, Path):
        other = _Other(aim.teacher, opened, serving, options)
        theirs, renamed = other.tensors(names), other.inputs
        lean = served_lean(giving(other.opened.model, theirs), theirs, other.serving)
        who = f"teacher '{aim.teacher}'"
    else:
        theirs, who = names, "the model as its own teacher"
        lean = served_lean(giving(opened.model, names), names, serving)
    model = trimmed(lean, read_each(lean, theirs, activations))
    few = examples.batch(np.arange(min(_FEW, len(examples))), None)
    fed = _renamed(few.inputs, renamed, model)
    with limited(options.limits):
        try:
            elsewhere = predictor(model)
            said = elsewhere(fed)
        except JobFailed as error:
            raise UnsupportedError(f"{who} does not run: {first_line(error)}") from error
    shapes = tuple(tuple(targets[teacher_target(i)].shape[1:]) for i in range(len(names)))
    for own, their, shape, array in zip(names, theirs, shapes, said, strict=True):
        if tuple(array.shape[1:]) != shape or len(array) != len(few.rows) or array.dtype.kind != "f":
            raise UsageError(
                f"{who} gives '{their}' {list(array.shape)} {array.dtype} for {len(few.rows)} samples, the model "
                f"'{own}' {[len(few.rows), *shape]}: they must have the same shape; choose what is compared with "
                "--teacher-tensor"
            )
    try:
        here: Predict = SideBySide(model, parts, batch_size(model))
    except UnsupportedError:
        here = elsewhere

    def run(batch: Arrays) -> Sequence[Array]:
        return here(_renamed(batch, renamed, model))

    return Teacher(aim.loss, run, names, shapes)


class _Other:
    """Another model as a teacher: which of its inputs and tensors are those of the model."""

    def __init__(self, path: Path, opened: Opened, serving: Serving, options: TrainOptions) -> None:
        self.path = path
        try:
            self.opened = open_model(path)
        except OtoError as error:
            raise type(error)(f"teacher: {error}") from None
        own = [v.name for v in data_inputs(opened.model) if v.name not in serving.values]
        theirs = [v.name for v in data_inputs(self.opened.model)]
        axes = {name: axis for name, axis in serving.axes.items() if name in theirs}
        values = {name: value for name, value in serving.values.items() if name in theirs}
        self.inputs: dict[str, str] = {}
        if len(own) == len(theirs) == 1:
            self.inputs = {own[0]: theirs[0]}
            axes = {theirs[0]: serving.axes[own[0]]} if own[0] in serving.axes else {}
        self.serving = served_by(self.opened.model, {*own, *self.inputs.values()}, axes=axes, values=values)
        missing = [
            n
            for n in theirs
            if n not in own and n not in self.serving.values and n not in self.inputs.values()
        ]
        if missing:
            raise UsageError(
                f"teacher '{path}' reads input '{missing[0]}', the model reads {', '.join(own)}: give a model with the "
                "same inputs"
            )
        self._outputs = [value.name for value in opened.model.graph.output]

    def tensors(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return its tensors for those of the model: by name, or the only output for the only one, or by place."""
        graph = self.opened.model.graph
        given = [value.name for value in graph.output]
        known = {name for node in graph.node for name in node.output if name}
        found = []
        for name in names:
            if name in known:
                found.append(name)
            elif len(names) == 1 and len(given) == 1:
                found.append(given[0])
            elif name in self._outputs and len(given) == len(self._outputs):
                found.append(given[self._outputs.index(name)])
            else:
                listed = ", ".join(f"'{value.name}' {_declared(value)}" for value in graph.output)
                raise UsageError(
                    f"teacher '{self.path}' has no tensor '{name}', its outputs are {listed}: give a model whose "
                    "outputs fit, or name tensors that both have with --teacher-tensor"
                )
        return tuple(found)


def _declared(value: onnx.ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return "[" + ", ".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims) + "]"


def _renamed(batch: Arrays, renamed: Mapping[str, str], model: onnx.ModelProto) -> dict[str, Array]:
    """Return the arrays that a model reads, by its own names and in its own types."""
    arrays = {renamed.get(name, name): array for name, array in batch.items()}
    names = [value.name for value in model.graph.input]
    return as_declared(model, {name: arrays[name] for name in names if name in arrays})


def calibrated(teacher: Teacher, examples: Source, options: TrainOptions) -> Teacher:
    """Return the teacher with a loss that divides squared errors by its variance, or by what the options say.

    The variance is over samples drawn by the seed, which are not augmented. Raises UsageError for another number of
    scales than there are tensors.
    """
    found = lesson_of(teacher.loss)
    assert found is not None
    lesson = found[0]
    if options.teacher_scale and len(options.teacher_scale) != lesson.outputs:
        raise UsageError(
            f"teacher-scale has {len(options.teacher_scale)} numbers, {lesson.outputs} tensors are compared: give one "
            "for each"
        )
    if options.teacher_scale:
        return replace(teacher, loss=scaled(teacher.loss, options.teacher_scale))
    if all(match.axis is not None for match in lesson.matches):
        return teacher
    rows = np.random.default_rng(options.seed).permutation(len(examples))[:CALIBRATED]
    spreads = [Spread() for _ in lesson.matches]
    for start in range(0, len(rows), BATCH):
        batch = examples.batch(np.sort(rows[start : start + BATCH]), None)
        for spread, said in zip(spreads, teacher.say(batch), strict=True):
            spread.add(said)
    return replace(teacher, loss=scaled(teacher.loss, [spread.variance for spread in spreads]))


def scales_of(loss: Loss) -> tuple[float, ...]:
    """Return what a loss divides the squared errors of a teacher's tensors by, () without numbers among them."""
    found = lesson_of(loss)
    if found is None or all(match.axis is not None for match in found[0].matches):
        return ()
    return tuple(match.scale for match in found[0].matches)
