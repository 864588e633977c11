"""What a model is taught by: which tensors are compared with the teacher's, and how."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from onnx_oto import data
from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients.graph.batching import feeds, set_batch
from onnx_oto.gradients.graph.frontier import Way, frontier, parts, ways
from onnx_oto.gradients.graph.open_batch import fixed_batch
from onnx_oto.gradients.graph.static_types import Type, types
from onnx_oto.gradients.graph.training_graph import choose_outputs
from onnx_oto.losses import Blend, Distill, Loss, Match
from onnx_oto.losses.distill import TEMPERATURE
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.aim import Aim, giving
from onnx_oto.pipeline.classes import classes_axis, ends_in
from onnx_oto.pipeline.finishing import trimmed
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.sizes import open_inputs, sizes_of
from onnx_oto.pipeline.teacher_options import DISTILL, NONE, SELF

_SAMPLES = 3
"""A batch that is no other size by chance."""


@dataclass(frozen=True)
class Wanted:
    """A tensor that is compared. named: by the user."""

    name: str
    weight: float = 1.0
    named: bool = False


def aim_of(
    opened: Opened,
    trained: Collection[str],
    serving: Serving,
    opening: data.Opening | None,
    options: TrainOptions,
) -> tuple[Aim, tuple[str, ...]]:
    """Return what training makes small, and sentences about it.

    trained: the parameters that train. opening: the data, None while nothing is known of them. Raises UsageError for
    tensors that are not there, and UnsupportedError where nothing can be taught.
    """
    task = options.make_loss()
    teacher, notes = _teacher(task, opening, options)
    if teacher is None:
        return Aim(task, choose_outputs(opened.master, options.model_output, task)), notes
    targets = opening.train.targets if opening is not None else {}
    alone = task.name == DISTILL or (not targets and task.compares != "nothing")
    if alone and task.name != DISTILL and not notes:
        notes = (
            f"the data hold no targets (y_train, y_test): {task.name} is left out, only the teacher is learned",
        )
    own = () if alone else choose_outputs(opened.master, options.model_output, task)
    wanted = _wanted(opened.master, trained, teacher, own, options)
    known, samples = _static(opened, serving, opening, (*own, *(each.name for each in wanted)))
    wanted, left_out = _per_sample(wanted, known, samples)
    if not alone:
        given = {name: sample.shape for name, sample in targets.items()}
        task = task.settle([known[name].shape for name in own], given)
    lean = trimmed(giving(opened.master, [each.name for each in wanted]), [each.name for each in wanted])
    matches = tuple(_match(lean, each, known[each.name], options, own, task) for each in wanted)
    matches = _shown(wanted, matches, {value.name for value in opened.model.graph.output})
    temperature = options.teacher_temperature or (
        task.temperature if isinstance(task, Distill) else TEMPERATURE
    )
    lesson = Distill(temperature, matches)
    told = (*notes, *left_out, _told(teacher, wanted, known, lesson, None if alone else task, options))
    names = tuple(each.name for each in wanted)
    if alone:
        return Aim(lesson, names, teacher), told
    outputs = tuple(dict.fromkeys((*own, *names)))
    at = tuple(outputs.index(name) for name in names)
    return Aim(Blend(task, lesson, at, options.teacher_weight), outputs, teacher), told


def _teacher(
    task: Loss, opening: data.Opening | None, options: TrainOptions
) -> tuple[str | Path | None, tuple[str, ...]]:
    """Return who teaches, None for nobody, and what has to be said of it."""
    if options.teacher == NONE:
        return None, ()
    if options.teacher is not None or task.name == DISTILL:
        return (SELF if options.teacher in (None, SELF) else Path(options.teacher)), ()
    if opening is None or opening.train.targets or options.loss.partition(":")[0] != TrainOptions.loss:
        return None, ()
    said = "the data hold no targets (y_train, y_test): the model learns from itself as it was brought (--teacher self)"
    return SELF, (said,)


def _wanted(
    model: onnx.ModelProto,
    trained: Collection[str],
    teacher: str | Path,
    own: Sequence[str],
    options: TrainOptions,
) -> list[Wanted]:
    """Return the tensors that are asked for, or those in front of the tail. own: what the task's loss reads."""
    found = ways(model, trained)
    if options.teacher_tensor:
        return _asked(model, found, options.teacher_tensor)
    ends = frontier(model, trained)
    if options.model_output is not None:
        ends = tuple(each.name for each in _asked(model, found, [options.model_output]))
    outputs = {value.name for value in model.graph.output}
    if not ends:
        listed = ", ".join(repr(value.name) for value in model.graph.output)
        raise UnsupportedError(
            f"nothing of the model can be taught: no floats with a slope in what trains lie in front of its outputs "
            f"({listed})"
        )
    if isinstance(teacher, Path):
        ends = tuple(name for name in ends if name in outputs) or ends
        return [Wanted(name) for name in ends]
    open_ends = [name for name in ends if name not in own]
    rest = [name for name in parts(model, open_ends) if found.get(name) is Way.SMOOTH]
    return [Wanted(name) for name in (*(name for name in ends if name in own), *rest)]


def _asked(model: onnx.ModelProto, found: Mapping[str, Way], texts: Iterable[str]) -> list[Wanted]:
    """Return tensors that are given as NAME or NAME:WEIGHT. Raises UsageError."""
    known = {name for node in model.graph.node for name in node.output if name}
    wanted: list[Wanted] = []
    for text in texts:
        name, weight = text, 1.0
        if text not in known:
            name, _, number = text.rpartition(":")
            try:
                weight = float(number) if name else 0.0
            except ValueError:
                weight = 0.0
            if name not in known:
                near = difflib.get_close_matches(text, sorted(known), 3, 0.5)
                hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
                raise UsageError(f"the model has no tensor '{name if weight else text}' to compare{hint}")
            if not 0 < weight < float("inf"):
                raise UsageError(
                    f"teacher-tensor is '{text}': write NAME or NAME:WEIGHT with a positive number"
                )
        if found.get(name, Way.STILL) is not Way.SMOOTH:
            raise UsageError(
                f"tensor '{name}' cannot be compared: it holds no floats with a slope in what trains; name one in "
                "front of it, or leave it out for those in front of all that jumps"
            )
        if any(each.name == name for each in wanted):
            raise UsageError(f"tensor '{name}' is given twice: leave one out")
        wanted.append(Wanted(name, weight, named=True))
    return wanted


def _static(
    opened: Opened, serving: Serving, opening: data.Opening | None, names: Sequence[str]
) -> tuple[dict[str, Type], int]:
    """Return the types of tensors, and for how many samples: _SAMPLES, or as many as the model is fixed to."""
    served = serving.served(trimmed(giving(opened.master, names), list(dict.fromkeys(names))))
    size = fixed_batch(served, ())
    for value in served.graph.input if size else ():
        value.type.tensor_type.shape.dim[0].Clear()
    patterns = open_inputs(served)
    fed = feeds(served, (), sizes_of(patterns, opening))
    return types(set_batch(served, fed, size or _SAMPLES)), size or _SAMPLES


def _per_sample(
    wanted: Sequence[Wanted], known: Mapping[str, Type], samples: int
) -> tuple[list[Wanted], tuple[str, ...]]:
    """Return the tensors that hold floats of every sample, and sentences about others.

    Raises UnsupportedError where none does, or one was asked for that does not.
    """
    kept, notes = [], []
    for each in wanted:
        kind = known.get(each.name)
        shape = None if kind is None else kind.static
        if kind is not None and shape and shape[0] == samples and kind.dtype == onnx.TensorProto.FLOAT:
            kept.append(each)
            continue
        told = "a shape that is not known" if shape is None else f"shape {list(shape)} for {samples} samples"
        note = f"tensor '{each.name}' has {told}: only floats whose first axis counts samples are compared"
        if each.named:
            raise UnsupportedError(note)
        notes.append(note)
    if not kept:
        raise UnsupportedError(f"nothing of the model can be taught: {'; '.join(notes)}")
    return kept, tuple(notes)


def _match(
    model: onnx.ModelProto,
    wanted: Wanted,
    kind: Type,
    options: TrainOptions,
    own: Sequence[str],
    task: Loss,
) -> Match:
    """Return how a tensor is compared. What the task's loss reads too is compared as that loss reads it."""
    shape = kind.static or ()
    match = Match(None, wanted.weight)
    if wanted.name in own:
        axes = task.activations(own.index(wanted.name)).get("Softmax")
        if task.compares != "classes" or options.teacher_match == "values":
            return match
        return replace(match, axis=(1 if axes is None else axes) % len(shape))
    if options.teacher_match == "values":
        return match
    axis = classes_axis(model, wanted.name, shape)
    if axis is None and options.teacher_match == "classes":
        axis = 1
    return replace(match, axis=axis, answers=axis is None and ends_in(model, wanted.name, {"Sigmoid": None}))


def _shown(wanted: Sequence[Wanted], matches: Sequence[Match], outputs: Collection[str]) -> tuple[Match, ...]:
    """Return the matches with those inside hidden from metrics, where there are outputs among them to judge by."""
    if not any(each.name in outputs for each in wanted):
        return tuple(matches)
    pairs = zip(wanted, matches, strict=True)
    return tuple(replace(match, shown=each.name in outputs) for each, match in pairs)


def _told(
    teacher: str | Path,
    wanted: Sequence[Wanted],
    known: Mapping[str, Type],
    lesson: Distill,
    task: Loss | None,
    options: TrainOptions,
) -> str:
    """Return what is compared and how, in a sentence."""
    who = "the model as it was brought, in inference form" if teacher == SELF else f"'{teacher}'"
    listed = []
    for each, match in zip(wanted, lesson.matches, strict=True):
        shape = list((known[each.name].static or ())[1:])
        how = "numbers" + " in front of the Sigmoid" * match.answers
        if match.axis is not None:
            how = f"scores of {shape[match.axis - 1]} classes"
        weight = "" if each.weight == 1 else f", weight {each.weight:g}"
        listed.append(f"'{each.name}' {shape} as {how}{weight}")
    warm = any(match.axis is not None for match in lesson.matches)
    at = f" at temperature {lesson.temperature:g}" if warm else ""
    beside = "" if task is None else f", {options.teacher_weight:g} of the loss beside {task.name}"
    return f"teacher: {who}; compared{at}: {', '.join(listed)} (--teacher-match){beside}"
