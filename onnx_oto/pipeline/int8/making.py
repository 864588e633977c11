"""Making an int8 model of a compact one: as a whole, and layer by layer back to float while it loses too much.

1. Training samples, drawn at random, show what values every tensor has.
2. All that ONNX Runtime's quantizer knows is quantized, and judged on validation samples, or, where nothing was set
   apart, on training samples that calibrated nothing.
3. Where more is lost than allowed, each layer is quantized alone, and what that changes of the outputs ranks them.
   Those that change most stay in float: one, two, four, ..., and then as few as will do.
4. The test samples only report: what loses more than allowed there is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_oto import data
from onnx_oto.errors import UnsupportedError
from onnx_oto.pipeline.finishing import as_declared, batch_size, served_lean
from onnx_oto.pipeline.int8.judging import Arrays, Sight
from onnx_oto.pipeline.int8.schemes import scheme_for
from onnx_oto.pipeline.int8_options import Int8Options
from onnx_oto.runtime.limits import limited
from onnx_oto.runtime.quantizing import prepared, quantizable, quantized, ranges_of
from onnx_oto.runtime.schemes import Scheme

Say = Callable[[str], None]

BATCH = 16
"""Samples of a run whose inner tensors are watched."""
JUDGED = 1000
"""Training samples that choices are made by at most, where no validation samples were set apart."""
RANKED = 32
"""Samples that layers are ranked on."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Who sees what. calibrating: what values there are; choosing: which layers stay in float; test: only reported."""

    calibrating: data.Source
    choosing: data.Source
    test: data.Source


@dataclass(frozen=True, eq=False)
class Made:
    """An int8 model. kept: layers in float, those that lost most first; layers: how many the quantizer knows."""

    model: onnx.ModelProto
    target: str
    scheme: Scheme
    layers: int
    kept: tuple[str, ...]


def parted(dataset: data.Dataset, test: data.Source, most: int, seed: int) -> Samples:
    """Return who sees which samples: at most `most` calibrate."""
    count = len(dataset.train)
    order = np.random.default_rng([seed, 8]).permutation(count)
    if dataset.val is not None:
        return Samples(data.Chosen(dataset.train, np.sort(order[:most])), dataset.val, test)
    first = min(most, max(count // 2, 1))
    rest = order[first : first + JUDGED] if count > first else order
    return Samples(
        data.Chosen(dataset.train, np.sort(order[:first])), data.Chosen(dataset.train, np.sort(rest)), test
    )


def make_int8(
    model: onnx.ModelProto, sight: Sight, samples: Samples, options: Int8Options, allowed: float, say: Say
) -> Made:
    """Return an int8 form of a model that loses at most `allowed` points on the choosing samples.

    Raises UnsupportedError where the quantizer cannot, or nothing is left that would be quantized.
    """
    return _Making(model, sight, samples, options, allowed, say).made()


class _Making:
    """One model on its way to 8 bits."""

    def __init__(
        self,
        model: onnx.ModelProto,
        sight: Sight,
        samples: Samples,
        options: Int8Options,
        allowed: float,
        say: Say,
    ) -> None:
        self._sight, self._samples, self._allowed, self._say = sight, samples, allowed, say
        self._brought = model
        # An open session keeps the process alive that models run in: loading the quantizer anew takes seconds.
        self._reference = sight.opened(model)
        with limited(sight.limits):
            self._target, self._scheme = scheme_for(options.int8_for)
            self._model = prepared(model)
            known = quantizable()
            watched = sight.serving.served(self._model)
            shown = sight.batches(model, samples.calibrating, BATCH)
            self._ranges = ranges_of(watched, [as_declared(watched, each) for each in shown], self._scheme)
        for name, value in sight.serving.values.items():
            self._ranges.setdefault(name, (value, value))
        self._layers = tuple(node.name for node in self._model.graph.node if node.op_type in known)
        self._before = sight.score(model, samples.choosing)

    def made(self) -> Made:
        """Return the int8 model with as few layers in float as will do."""
        lost = self._lost(())
        self._told(lost, "all layers quantized")
        if lost <= self._allowed:
            return self._finished(())
        ranked = self._ranked()
        low, high = 0, 1  # `low` layers in float lose too much, `high` may do
        while (lost := self._lost(ranked[:high])) > self._allowed:
            self._told(lost, f"{high} of {len(ranked)} layers in float")
            if high == len(ranked):
                raise UnsupportedError(
                    f"no int8 model loses at most {self._allowed:g} points: with every layer in float that has any "
                    f"effect {lost:.2f} are lost; allow more with --int8-drop"
                )
            low, high = high, min(2 * high, len(ranked))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._lost(ranked[:middle]) > self._allowed else (low, middle)
        self._told(self._lost(ranked[:high]), f"{high} of {len(ranked)} layers in float")
        return self._finished(tuple(ranked[:high]))

    def _finished(self, kept: tuple[str, ...]) -> Made:
        model = self._without(kept)
        if not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
            raise UnsupportedError(
                "no layer of the model can be quantized"
                + (f" at {self._allowed:g} points: allow more with --int8-drop" if kept else "")
            )
        return Made(model, self._target, self._scheme, len(self._layers), kept)

    def _without(self, names: Collection[str]) -> onnx.ModelProto:
        with limited(self._sight.limits):
            return quantized(self._model, self._ranges, self._scheme, without=names)

    def _lost(self, without: Collection[str]) -> float:
        """Return the points that are lost with these layers in float, on the choosing samples."""
        model = self._without(without)
        if self._before is None:
            return self._sight.distance(model, self._reference, self._batches(self._samples.choosing)).points
        after = self._sight.score(model, self._samples.choosing)
        assert after is not None
        return self._sight.lost(self._before, after)

    def _ranked(self) -> list[str]:
        """Return the layers, those first whose quantization alone changes the outputs most."""
        few = self._batches(
            data.Chosen(self._samples.choosing, np.arange(min(RANKED, len(self._samples.choosing))))
        )
        answered = [(batch, self._reference.run(batch)) for batch in few]
        changes = {}
        for name in self._layers:
            with limited(self._sight.limits):
                alone = quantized(self._model, self._ranges, self._scheme, only=[name])
            changes[name] = self._sight.distance(alone, self._reference, answered).change
        return sorted(self._layers, key=lambda name: -changes[name])

    def _batches(self, samples: data.Source) -> Sequence[Arrays]:
        return self._sight.batches(self._brought, samples, BATCH)

    def _told(self, lost: float, how: str) -> None:
        self._say(
            f"int8, {how}: {max(lost, 0.0):.2f} points lost on {len(self._samples.choosing):,} samples, "
            f"{self._allowed:g} are allowed"
        )


def feed_of(model: onnx.ModelProto, sight: Sight, samples: data.Source) -> tuple[onnx.ModelProto, Arrays]:
    """Return a model as it is served, and what it is timed on: one sample, or its fixed batch."""
    lean = served_lean(model, [value.name for value in model.graph.output], sight.serving)
    return lean, as_declared(lean, next(data.in_order(samples, batch_size(lean) or 1)).inputs)
