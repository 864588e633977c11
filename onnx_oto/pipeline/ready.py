"""What is ready before the first step: a model, data that fit it, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy.typing as npt

from onnx_oto import data
from onnx_oto.gradients import Preparation
from onnx_oto.gradients.put_back import has_norms
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.aim import Aim
from onnx_oto.pipeline.budgeting import Goal
from onnx_oto.pipeline.norms import Norms
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.starting import Found
from onnx_oto.pipeline.teacher import Teacher
from onnx_oto.pipeline.whole import Whole
from onnx_oto.runtime.comparing import Feeding
from onnx_oto.training import Score
from onnx_oto.training.evaluate import Provider

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Cut:
    """What went before the first step. drop: bool [lanes]. values: of the initializers that were fitted to that."""

    drop: BoolArray
    values: Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Ready:
    """A model, data that fit it, and how to train: nothing is left that could be refused.

    others: the preparation for samples of other shapes, where batches differ in that. original: how good the model was
    when it came, None before that is known. brought: the model as it came, where groups went before the first step:
    then `cut` says which. whole: by what all are judged, where samples are patches.
    """

    opened: Opened
    serving: Serving
    preparation: Preparation
    dataset: data.Dataset
    feeding: Feeding
    aim: Aim
    goal: Goal = field(default_factory=Goal)
    others: tuple[Preparation, ...] = ()
    teacher: Teacher | None = None
    original: Score | None = None
    norms: Norms = field(default_factory=Norms)
    start: Found | None = None
    brought: Opened | None = None
    cut: Cut | None = None
    whole: Whole | None = None

    @property
    def reported(self) -> data.Source:
        """The test data by which original, full and compact model are judged."""
        return self.dataset.test if self.whole is None else self.whole.test

    def looked_at(self, options: TrainOptions) -> data.Dataset:
        """Return the data that are trained on, and looked at after every epoch."""
        if self.whole is None or options.whole_images != "always":
            return self.dataset
        return replace(self.dataset, test=self.whole.test, val=self.whole.val)

    @property
    def providers(self) -> tuple[Provider, ...]:
        """What gives the targets that the data do not hold."""
        return () if self.teacher is None else (self.teacher,)

    @property
    def normed(self) -> bool:
        """Whether layers have norms, of their own or put back."""
        return bool(self.norms.layers) or has_norms(self.opened.analysis.graph)


class Recognises(Protocol):
    """Tells whether data are those that a run began with. Both raise DataError."""

    def opened(self, opening: data.Opening | None) -> None:
        """Look at what is known before values are read; None: they cannot be opened."""

    def fitted(self, dataset: data.Dataset) -> None:
        """Look at samples."""
