"""The model as it was brought, in inference form, judged on data before anything is trained.

Running statistics, no Dropout: what whoever brought it serves. It is judged as the trained and the compact model are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.data import Source
from onnx_oto.losses import Loss
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.finishing import Predict, predictor, reading, served_lean
from onnx_oto.pipeline.opening import Opened
from onnx_oto.runtime.runner import first_line
from onnx_oto.runtime.timing import TROUBLES
from onnx_oto.training import Score, evaluate
from onnx_oto.training.evaluate import Array, Provider

BATCH = 32
"""Samples per run, few enough for the memory that a model may take by default."""
FEW = 256
"""Samples that show how outputs are spread."""


@dataclass(frozen=True)
class Unjudged:
    """Why there is no score."""

    reason: str


@dataclass(frozen=True, eq=False)
class Original:
    """A model that was opened, as data are served to it. predict: gives what the loss reads, for any batch."""

    loss: Loss
    predict: Predict

    def score(
        self, examples: Source, metrics: Sequence[str] = (), *, providers: Sequence[Provider] = ()
    ) -> Score | Unjudged:
        """Return how good it is on all examples, or why nobody can tell: no kernel, a limit, a crash.

        Raises DataError for examples that cannot be served or judged, and UsageError for a metric that the loss cannot
        give.
        """
        try:
            return evaluate(self.predict, examples, self.loss, metrics, batch=BATCH, providers=providers)
        except TROUBLES as error:
            return Unjudged(first_line(error))

    def give(self, examples: Source, most: int = FEW) -> list[Array] | Unjudged:
        """Return what the loss reads of the first `most` examples, samples first; or why it cannot be had."""
        rows = np.arange(min(most, len(examples)))
        try:
            parts = [
                self.predict(examples.batch(rows[start : start + BATCH], None).inputs)
                for start in range(0, len(rows), BATCH)
            ]
        except TROUBLES as error:
            return Unjudged(first_line(error))
        return [np.concatenate(part) for part in zip(*parts, strict=True)]


def original_of(opened: Opened, serving: Serving, outputs: Sequence[str], loss: Loss) -> Original | Unjudged:
    """Return the model, ready to be judged by a settled loss about these outputs, or why no runtime takes it."""
    lean = served_lean(opened.model, outputs, serving)
    try:
        return Original(loss, predictor(reading(lean, outputs, loss)))
    except TROUBLES as error:
        return Unjudged(first_line(error))
