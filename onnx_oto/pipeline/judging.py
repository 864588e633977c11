"""How good a cut model is on test data, without training: by the same path as the final table of `train`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError

if TYPE_CHECKING:  # looking at a model without data needs no runtime
    import onnx

    from onnx_oto import data
    from onnx_oto.losses import Loss
    from onnx_oto.model.normal.serving import Serving
    from onnx_oto.pipeline.opening import Opened
    from onnx_oto.pipeline.options import InspectOptions
    from onnx_oto.training import Score
    from onnx_oto.zigs import Choice

BATCH = 32
"""Samples per run, few enough for the memory that a model may take by default."""

Arrays = Mapping[str, npt.NDArray[Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judgement:
    """What data say of a cut model: a score, or, of data without labels, how far its outputs are off.

    change: sum of |compact - full| / sum of |full| over the outputs that the loss would read, and all samples.
    """

    samples: int
    score: Score | None = None
    change: float | None = None

    def figures(self) -> dict[str, float]:
        """Return what was found, by name."""
        if self.score is None:
            return {"output change": math.nan if self.change is None else self.change}
        return {
            "loss": self.score.loss,
            self.score.metric: self.score.value,
            **self.score.further,
        }

    def told(self) -> str:
        """Return it in words."""
        return ", ".join(f"{name} {value:.4f}" for name, value in self.figures().items())

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        if self.score is None:
            return {"samples": self.samples, "output_change": self.change}
        score = self.score
        return {
            "samples": self.samples,
            "loss": score.loss,
            "metric": {"name": score.metric, "value": score.value},
            "metrics": [{"name": name, "value": value} for name, value in score.further.items()],
        }


class Judge(Protocol):
    """What says how good a model is without some of its lanes."""

    def of(self, choice: Choice) -> Judgement: ...


@dataclass(frozen=True, eq=False)
class DataJudge:
    """A model, data that fit it, and the loss. outputs: that the loss is about. loss: None for data without labels."""

    opened: Opened
    options: InspectOptions
    serving: Serving
    outputs: tuple[str, ...]
    samples: data.Chosen
    loss: Loss | None

    def of(self, choice: Choice) -> Judgement:
        """Return what the data say of the model without these lanes, which is cut. Raises LimitError, CrashedError."""
        from onnx_oto.runtime.limits import limited
        from onnx_oto.surgery import cut

        small = cut(self.opened.analysis, choice.drop).model if choice.dropped else self.opened.model
        with limited(self.options.limits):
            if self.loss is None:
                return Judgement(len(self.samples), change=self._change(small))
            return Judgement(len(self.samples), self._score(small, self.loss))

    def _score(self, model: onnx.ModelProto, loss: Loss) -> Score:
        from onnx_oto.pipeline.finishing import predictor, reading, served_lean
        from onnx_oto.training import evaluate

        lean = served_lean(model, self.outputs, self.serving)
        run = predictor(reading(lean, self.outputs, loss))
        return evaluate(run, self.samples, loss, self.options.metric, batch=BATCH)

    def _change(self, model: onnx.ModelProto) -> float:
        from onnx_oto.data import in_order
        from onnx_oto.pipeline.finishing import predictor, served_lean

        full, small = (
            predictor(served_lean(each, self.outputs, self.serving)) for each in (self.opened.model, model)
        )
        off = whole = 0.0
        for part in in_order(
            self.samples, BATCH
        ):  # outputs may be large: those of the full model are not kept
            for before, after in zip(full(part.inputs), small(part.inputs), strict=True):
                off += float(np.abs(after.astype(np.float64) - before).sum())
                whole += float(np.abs(before.astype(np.float64)).sum())
        return off / whole if whole else (math.inf if off else 0.0)


def judge_on(source: str | os.PathLike[str], opened: Opened, options: InspectOptions, say: Say) -> DataJudge:
    """Return what judges cuts of a model on the test samples of a file; `say` gets what is done to them.

    Raises what `train` would of data and outputs: UsageError, UnsupportedError, DataError, StorageError.
    """
    from onnx_oto import data
    from onnx_oto.gradients.graph.batching import feeds, set_batch
    from onnx_oto.gradients.graph.open_batch import fixed_batch
    from onnx_oto.gradients.graph.static_types import types
    from onnx_oto.gradients.graph.training_graph import choose_outputs, output_shapes
    from onnx_oto.losses import Target, read_all
    from onnx_oto.pipeline.finishing import trimmed
    from onnx_oto.pipeline.preparing import fitted, require_samples, serving_of
    from onnx_oto.pipeline.sizes import OPEN_SIZE, open_inputs

    opening = data.open_data(source, options.reading)
    if options.pad_value is not None and opening.test.padding is None:
        raise UsageError(
            f"pad-value is {options.pad_value}: here it says what text is filled up with, and '{source}' is no text "
            "whose padding is known: leave it out"
        )
    served = serving_of(opened, options, opening)
    loss = options.make_loss()
    model = served.served(opened.master)
    outputs = choose_outputs(model, options.model_output, loss)
    lean = trimmed(model, outputs)
    patterns = open_inputs(lean)
    shapes = {name: tuple(size or OPEN_SIZE for size in sizes) for name, sizes in patterns.items()}
    shapes.update(data.sample_shapes(opening.test, patterns))
    size = fixed_batch(lean, ())
    for value in lean.graph.input if size else ():
        value.type.tensor_type.shape.dim[0].Clear()
    fed = feeds(lean, (), shapes)
    require_samples(fed)
    targets: dict[str, Target] = {}
    is_judged = bool(opening.test.targets) or loss.compares == "nothing"
    if is_judged:
        static = set_batch(lean, fed, size or 2)
        known = types(static)
        given = {name: sample.shape for name, sample in opening.test.targets.items()}
        loss = loss.settle([known[name].shape for name in outputs], given)
        seen = read_all(static, outputs, loss)
        targets = loss.targets(output_shapes(trimmed(static, seen), seen, loss, size or 2))
    else:
        say(
            f"'{source}' holds no labels (y_test), which the loss needs: told is how far outputs are off those of the "
            "full model"
        )
    dataset = fitted(opened, fed, targets, opening, options)
    for note in dataset.notes:
        say(note)
    samples = _drawn(dataset.test, options.samples, options.seed)
    if len(samples) < len(dataset.test):
        say(
            f"{len(samples):,} of {len(dataset.test):,} test samples, drawn at random, are used: see --samples"
        )
    return DataJudge(opened, options, served, outputs, samples, loss if is_judged else None)


def _drawn(source: data.Source, most: int, seed: int) -> data.Chosen:
    """Return at most so many samples, in their order: a file may be sorted by label."""
    from onnx_oto.data import Chosen

    count = len(source)
    rows = np.arange(count)
    if count > most:
        rows = np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    return Chosen(source, rows)
