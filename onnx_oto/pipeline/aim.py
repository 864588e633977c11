"""What training makes small: a loss, and the tensors that it reads, which may lie inside the model."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from onnx_oto.losses import Blend, Distill, Loss
from onnx_oto.pipeline.opening import Opened, require_prunable
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.settings import AnalysisOptions
from onnx_oto.zigs import analyse


@dataclass(frozen=True, eq=False)
class Aim:
    """A loss, settled as far as the graph settles it, and what it reads.

    outputs: tensors of the model in normal form. teacher: `self`, a file, or None. kept: tensors whose channels stay.
    """

    loss: Loss
    outputs: tuple[str, ...]
    teacher: str | Path | None = None
    kept: tuple[str, ...] = ()

    def under(self, options: TrainOptions) -> AnalysisOptions:
        """Return what is asked of the analysis, with the channels that the aim keeps."""
        return replace(options, keep=(*options.keep, *map(glob.escape, self.kept)))

    @property
    def lesson(self) -> tuple[Distill, tuple[int, ...]] | None:
        """What is compared with the teacher, and the numbers of the outputs that it is about; None without one."""
        return lesson_of(self.loss)

    def giving(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with what the loss reads among its outputs, itself where that is so."""
        return giving(model, self.outputs)

    def inside(self, model: onnx.ModelProto) -> tuple[str, ...]:
        """Return what the loss reads that is no output of the model."""
        known = {value.name for value in model.graph.output}
        return tuple(name for name in self.outputs if name not in known)


def lesson_of(loss: Loss) -> tuple[Distill, tuple[int, ...]] | None:
    """Return what a loss compares with a teacher, and of which of its outputs; None where it does not."""
    if isinstance(loss, Distill):
        return loss, tuple(range(loss.outputs))
    return (loss.teacher, loss.at) if isinstance(loss, Blend) else None


def scaled(loss: Loss, scales: Sequence[float]) -> Loss:
    """Return a loss with a teacher with these numbers to divide squared errors by."""
    found = lesson_of(loss)
    if found is None:
        return loss
    lesson = found[0]
    matches = tuple(replace(m, scale=scale) for m, scale in zip(lesson.matches, scales, strict=True))
    taught = replace(lesson, matches=matches)
    return replace(loss, teacher=taught) if isinstance(loss, Blend) else taught


def giving(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a model that gives these tensors too, itself where it does."""
    known = {value.name for value in model.graph.output}
    more = [name for name in names if name not in known]
    if not more:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    return result


def keeping(opened: Opened, aim: Aim, options: TrainOptions) -> tuple[Opened, Aim]:
    """Return model and aim with the channels kept of tensors inside that the loss reads.

    They are compared with the teacher's channel by channel, in the compact model too. Raises UnsupportedError when
    nothing is left that could go.
    """
    layouts = opened.analysis.trace.layouts
    names = tuple(name for name in aim.inside(opened.model) if name in layouts)
    if not names:
        return opened, aim
    kept = replace(aim, kept=names)
    analysis = analyse(opened.model, kept.under(options))
    if sum(d.size for d in analysis.prunable) == sum(d.size for d in opened.analysis.prunable):
        return opened, aim
    opened = replace(opened, analysis=analysis)
    if options.prunes:
        require_prunable(opened)
    return opened, kept
