"""How good an int8 model is beside the float one it was made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto import data
from onnx_oto.losses import Loss
from onnx_oto.metrics import Metric, metrics_for
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.classes import classes_axis
from onnx_oto.pipeline.finishing import Predict, batch_size, predictor, reading, served_lean
from onnx_oto.pipeline.int8.result import PERCENT, Distance
from onnx_oto.pipeline.judging import BATCH
from onnx_oto.runtime.limits import Limits, limited
from onnx_oto.training import Score, evaluate
from onnx_oto.training.evaluate import Provider

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

WITHOUT_LABELS = 5.0
LABELLED = 0.5
"""Points that may be lost where nobody says how many."""


Answered = tuple[Arrays, Sequence[Array]]
"""Inputs, and what a model said of them."""


class Asked(NamedTuple):
    """A model with the outputs that are judged alone, and what runs it. Its session stays open while it is held."""

    lean: onnx.ModelProto
    run: Predict


@dataclass(frozen=True, eq=False)
class Sight:
    """How models are looked at. outputs: that are judged. loss: None for data without labels."""

    serving: Serving
    outputs: tuple[str, ...]
    loss: Loss | None
    metric: Sequence[str | Metric]
    limits: Limits
    providers: Sequence[Provider] = ()
    loaders: int = 1

    @property
    def allowed(self) -> float:
        """Points that may be lost where nobody says how many."""
        return WITHOUT_LABELS if self.loss is None else LABELLED

    def of(self, model: onnx.ModelProto) -> Sight:
        """Return how this model and those made of it are looked at: by what they give, where they lack what is judged.

        What lies inside a model may be gone once its layers are fused.
        """
        given = tuple(value.name for value in model.graph.output)
        if set(self.outputs) <= set(given):
            return self
        return Sight(self.serving, given, None, (), self.limits)

    def score(self, model: onnx.ModelProto, samples: data.Source) -> Score | None:
        """Return how good a model is on samples with labels, None without. Raises LimitError, CrashedError."""
        if self.loss is None:
            return None
        with limited(self.limits):
            lean = served_lean(model, self.outputs, self.serving)
            run = predictor(reading(lean, self.outputs, self.loss))
            return evaluate(
                run,
                samples,
                self.loss,
                self.metric,
                batch=BATCH,
                providers=self.providers,
                loaders=self.loaders,
            )

    def lost(self, before: Score, after: Score) -> float:
        """Return the points of the first metric that are lost; less than nothing where it got better."""
        assert self.loss is not None
        first = metrics_for(self.loss, self.metric)[0]
        worse = before.value - after.value if before.better == "higher" else after.value - before.value
        if math.isnan(worse):
            return math.inf
        point = abs(before.value) / PERCENT if first.point is None else first.point
        return worse / point if point else (math.inf if worse > 0 else 0.0)

    def opened(self, model: onnx.ModelProto) -> Asked:
        """Return a model, ready to be asked what is judged. Raises UnsupportedError, LimitError, CrashedError."""
        with limited(self.limits):
            lean = served_lean(model, self.outputs, self.serving)
            return Asked(lean, predictor(lean))

    def distance(
        self, model: onnx.ModelProto, reference: Asked, batches: Iterable[Arrays | Answered]
    ) -> Distance:
        """Return how far the outputs of a model are from those of the reference. Raises LimitError, CrashedError.

        batches: inputs, or such with what the reference said of them.
        """
        off = whole = 0.0
        same = places = 0
        with limited(self.limits):
            mine = self.opened(model)
            for batch in batches:
                inputs, wanted = batch if isinstance(batch, tuple) else (batch, reference.run(batch))
                for name, found, given in zip(self.outputs, mine.run(inputs), wanted, strict=True):
                    if given.dtype.kind != "f":
                        continue
                    off += float(np.abs(found.astype(np.float64) - given).sum())
                    whole += float(np.abs(given.astype(np.float64)).sum())
                    axis = classes_axis(reference.lean, name, given.shape)
                    if axis is not None:
                        agreed = found.argmax(axis) == given.argmax(axis)
                        same, places = same + int(agreed.sum()), places + agreed.size
        change = off / whole if whole else (math.inf if off else 0.0)
        return Distance(math.inf if math.isnan(change) else change, same / places if places else None)

    def batches(self, model: onnx.ModelProto, samples: data.Source, most: int) -> list[Arrays]:
        """Return inputs of a model, batch by batch, `most` samples in each where it takes any number."""
        size = batch_size(self.serving.served(model)) or most
        return [batch.inputs for batch in data.in_order(samples, size)]
