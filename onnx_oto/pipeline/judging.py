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
    from onnx_oto.pipeline.options import JudgeOptions
    from onnx_oto.training import Score
    from onnx_oto.zigs import Choice

BATCH = 32
"""Samples per run, few enough for the memory that a model may take by default."""

Arrays = Mapping[str, npt.NDArray[Any]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judgement:
    """What data say of a cut model: a score, or, of data without labels, how far its outputs are off.

    change: sum of |compact - full| / sum of |full| over the outputs that would be taught, and all samples. agreement:
    of those that say a class, the share of places where both models say the same; None where none does.
    """

    samples: int
    score: Score | None = None
    change: float | None = None
    agreement: float | None = None

    def figures(self) -> dict[str, float]:
        """Return what was found, by name."""
        if self.score is None:
            agreed = {} if self.agreement is None else {"agreement": self.agreement}
            return {**agreed, "output change": math.nan if self.change is None else self.change}
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
            return {"samples": self.samples, "output_change": self.change, "agreement": self.agreement}
        score = self.score
        return {
            "samples": self.samples,
            "loss": score.loss,
            "metric": {"name": score.metric, "value": score.value},
            "metrics": [{"name": name, "value": value} for name, value in score.further.items()],
        }


HALF = 0.5
"""The share of what the original does that a model of use does at least."""


def useless(original: Judgement, cut: Judgement) -> str | None:
    """Return what a model that is of no use has lost, None where it is of some.

    Less than half of a metric of which more is better, of agreement with the original, or of its outputs is left; or an
    error is twice as large and more. What was near nothing before says nothing.
    """
    before, after = original.score, cut.score
    if before is not None and after is not None:
        if math.isnan(after.value):
            return f"{after.metric} is no number"
        lost = (
            after.value < HALF * before.value
            if before.better == "higher"
            else after.value > before.value / HALF
        )
        return (
            f"{after.metric} {after.value:.4g} against {before.value:.4g}"
            if lost and before.value > 0
            else None
        )
    if cut.agreement is not None:
        return (
            f"it agrees with the original on {cut.agreement:.0%} of the answers"
            if cut.agreement < HALF
            else None
        )
    if cut.change is None or cut.change <= HALF:
        return None
    if not math.isfinite(cut.change):
        return "its outputs are no numbers"
    return f"its outputs are off the original's by {cut.change:.0%}"


class Judge(Protocol):
    """What says how good a model is without some of its lanes."""

    def of(self, choice: Choice) -> Judgement: ...


@dataclass(frozen=True, eq=False)
class DataJudge:
    """A model, data that fit it, and the loss.

    outputs: that the loss is about, or that would be taught. samples: test data; dataset: all of them. loss: None for
    data without labels; of outputs that say a class then the axis of classes, else None.
    """

    opened: Opened
    options: JudgeOptions
    serving: Serving
    outputs: tuple[str, ...]
    samples: data.Chosen
    dataset: data.Dataset
    loss: Loss | None
    classes: tuple[int | None, ...] = ()

    def of(self, choice: Choice) -> Judgement:
        """Return what the data say of the model without these lanes. Raises LimitError, CrashedError.

        It is cut, or, where something inside it is judged, its groups are zero: there channels have the same places.
        """
        from onnx_oto.surgery import cut
        from onnx_oto.zigs import zero_dropped

        given = {value.name for value in self.opened.model.graph.output}
        if not choice.dropped:
            return self.of_model(self.opened.model)
        if not given.issuperset(self.outputs):
            return self.of_model(zero_dropped(self.opened.analysis, choice.drop))
        return self.of_model(cut(self.opened.analysis, choice.drop).model)

    def of_model(self, model: onnx.ModelProto) -> Judgement:
        """Return what the data say of a model with the same inputs and outputs. Raises LimitError, CrashedError."""
        from onnx_oto.runtime.limits import limited

        with limited(self.options.limits):
            if self.loss is None:
                return self._compared(model)
            return Judgement(len(self.samples), self._score(model, self.loss))

    def _score(self, model: onnx.ModelProto, loss: Loss) -> Score:
        from onnx_oto.pipeline.finishing import predictor, reading
        from onnx_oto.training import evaluate

        run = predictor(reading(self.lean(model), self.outputs, loss))
        return evaluate(run, self.samples, loss, self.options.metric, batch=BATCH)

    def _compared(self, model: onnx.ModelProto) -> Judgement:
        """Return how far the outputs of a model are from those of the one that was opened."""
        from onnx_oto.data import in_order
        from onnx_oto.pipeline.finishing import predictor

        full, small = (predictor(self.lean(each)) for each in (self.opened.model, model))
        off = whole = 0.0
        same = places = 0
        for part in in_order(
            self.samples, BATCH
        ):  # outputs may be large: those of the full model are not kept
            pairs = zip(full(part.inputs), small(part.inputs), self.classes, strict=True)
            for before, after, axis in pairs:
                off += float(np.abs(after.astype(np.float64) - before).sum())
                whole += float(np.abs(before.astype(np.float64)).sum())
                if axis is not None:
                    agreed = before.argmax(axis) == after.argmax(axis)
                    same, places = same + int(agreed.sum()), places + agreed.size
        change = off / whole if whole else (math.inf if off else 0.0)
        return Judgement(len(self.samples), change=change, agreement=same / places if places else None)

    def lean(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a model with the outputs that are judged alone, as data are served to it."""
        from onnx_oto.pipeline.aim import giving
        from onnx_oto.pipeline.finishing import served_lean

        return served_lean(giving(model, self.outputs), self.outputs, self.serving)


def judge_on(source: str | os.PathLike[str], opened: Opened, options: JudgeOptions, say: Say) -> DataJudge:
    """Return what judges cuts of a model on the test samples of a file; `say` gets what is done to them.

    Raises what `train` would of data and outputs: UsageError, UnsupportedError, DataError, StorageError.
    """
    from onnx_oto import data
    from onnx_oto.gradients.graph.batching import feeds, set_batch
    from onnx_oto.gradients.graph.open_batch import fixed_batch
    from onnx_oto.gradients.graph.static_types import types
    from onnx_oto.gradients.graph.training_graph import output_shapes
    from onnx_oto.losses import Target, read_all
    from onnx_oto.pipeline.aim import giving
    from onnx_oto.pipeline.classes import classes_axis
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
    is_judged = bool(opening.test.targets) or loss.compares == "nothing"
    outputs = _outputs(opened, options, loss if is_judged else None)
    lean = trimmed(served.served(giving(opened.master, outputs)), outputs)
    patterns = open_inputs(lean)
    shapes = {name: tuple(size or OPEN_SIZE for size in sizes) for name, sizes in patterns.items()}
    shapes.update(data.sample_shapes(opening.test, patterns))
    size = fixed_batch(lean, ())
    for value in lean.graph.input if size else ():
        value.type.tensor_type.shape.dim[0].Clear()
    fed = feeds(lean, (), shapes)
    require_samples(fed)
    targets: dict[str, Target] = {}
    classes: tuple[int | None, ...] = ()
    static = set_batch(lean, fed, size or 2)
    known = types(static)
    if is_judged:
        given = {name: sample.shape for name, sample in opening.test.targets.items()}
        loss = loss.settle([known[name].shape for name in outputs], given)
        seen = read_all(static, outputs, loss)
        targets = loss.targets(output_shapes(trimmed(static, seen), seen, loss, size or 2))
    else:
        shapes_of = [known[name].static or () for name in outputs]
        classes = tuple(classes_axis(lean, *pair) for pair in zip(outputs, shapes_of, strict=True))
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
    judged = loss if is_judged else None
    return DataJudge(opened, options, served, outputs, samples, dataset, judged, classes)


def _outputs(opened: Opened, options: JudgeOptions, loss: Loss | None) -> tuple[str, ...]:
    """Return what a loss reads, or without one all that would be taught: floats in front of what jumps."""
    from onnx_oto.gradients.graph.frontier import frontier
    from onnx_oto.gradients.graph.training_graph import choose_outputs
    from onnx_oto.zigs import parameters

    if loss is not None or options.model_output is not None:
        return choose_outputs(opened.master, options.model_output, loss or options.make_loss())
    found = frontier(opened.master, parameters(opened.analysis, opened.origins).trained)
    return found or choose_outputs(opened.master, None, options.make_loss())


def _drawn(source: data.Source, most: int, seed: int) -> data.Chosen:
    """Return at most so many samples, in their order: a file may be sorted by label."""
    from onnx_oto.data import Chosen

    count = len(source)
    rows = np.arange(count)
    if count > most:
        rows = np.sort(np.random.default_rng(seed).choice(count, most, replace=False))
    return Chosen(source, rows)
