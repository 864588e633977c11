"""`prune --data`: what data say of channels before some go, and of the model after that, cut and fitted anew."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx_oto.errors import UnsupportedError
from onnx_oto.lanes.layout import FloatArray
from onnx_oto.lanes.quantized import is_quantized
from onnx_oto.model import load
from onnx_oto.pipeline.int8.beside import REFUSALS, int8_name, kept_float, write_int8
from onnx_oto.pipeline.int8.judging import Sight
from onnx_oto.pipeline.int8.making import parted
from onnx_oto.pipeline.int8.result import Int8
from onnx_oto.pipeline.judging import DataJudge, Judgement, judge_on, useless
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import ACTIVATIONS, PruneOptions
from onnx_oto.pipeline.refitting import Seen, fitted, full_without, lane_losses, look, with_values
from onnx_oto.zigs import Choice, score

Say = Callable[[str], None]


@dataclass(frozen=True)
class Judgements:
    """What test data say of the model as it was brought, once groups are cut, and once the others are fitted anew.

    refitted: None where nothing was fitted. layers: that were. left: the share of what their inputs lost that stayed
    lost, mean over the layers. fitted: initializers of the model in normal form that have other values now.
    """

    original: Judgement
    cut: Judgement
    refitted: Judgement | None = None
    layers: int = 0
    left: float = 0.0
    fitted: tuple[str, ...] = ()

    @property
    def last(self) -> Judgement:
        """What data say of the model that is written."""
        return self.cut if self.refitted is None else self.refitted

    def warnings(self) -> list[str]:
        """Return that the model is of no use as it is, where that is so."""
        lost = useless(self.original, self.last)
        if lost is None:
            return []
        return [
            f"the compact model is of no use as it is: {lost}. Remove less, or `onnx-oto train` to the same target "
            "with the same data"
        ]

    def rows(self) -> list[tuple[str, dict[str, float]]]:
        """Return the figures of every model by its name."""
        known = [("original", self.original), ("cut", self.cut), ("refitted", self.refitted)]
        return [(name, each.figures()) for name, each in known if each is not None]

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        found: dict[str, Any] = {"original": self.original.as_json(), "cut": self.cut.as_json()}
        if self.refitted is not None:
            found |= {"refitted": self.refitted.as_json(), "layers": self.layers, "error_left": self.left}
        return found


@dataclass(frozen=True, eq=False)
class ByData:
    """A model, what judges it, and how it is pruned by data."""

    opened: Opened
    options: PruneOptions
    judge: DataJudge
    say: Say

    @cached_property
    def _seen(self) -> Seen:
        judge, options = self.judge, self.options
        return look(
            self.opened,
            judge.serving,
            judge.outputs,
            judge.dataset.train,
            samples=options.refit_samples,
            seed=options.seed,
            limits=options.limits,
            say=self.say,
        )

    def scores(self) -> FloatArray:
        """Return the scores of lanes that are asked for: float64 [lanes]."""
        options = self.options
        if options.ranking != ACTIVATIONS:
            return score(self.opened.analysis, options.ranking, options.seed)
        return lane_losses(self._seen, seed=options.seed, limits=options.limits, say=self.say)

    def refitted(self, choice: Choice) -> tuple[Opened, Judgements]:
        """Return the model whose layers are fitted to what is left, all groups there yet, and what data say of it."""
        judge = self.judge
        opened, analysis = self.opened, self.opened.analysis
        original, cut = judge.of_model(opened.model), judge.of(choice)
        self._told("as it was brought", original)
        self._told("cut", cut)
        if self.options.skip_refit or not choice.dropped:
            return opened, Judgements(original, cut)
        begin = time.perf_counter()
        found = fitted(self._seen, choice.drop, limits=self.options.limits, say=self.say)
        layers, left = len(found.left), sum(found.left.values()) / max(len(found.left), 1)
        judged = judge.of_model(full_without(analysis, found.values, choice.drop))
        self._told("refitted", judged, f", {layers} layers in {time.perf_counter() - begin:.0f} s")
        return with_values(opened, found.values, self.options), Judgements(
            original, cut, judged, layers, left, tuple(found.values)
        )

    def int8(self, compact: str | os.PathLike[str], written: int) -> Int8:
        """Write the int8 form of the compact model beside it, and return what is told of it. Raises OtoError."""
        judge, options = self.judge, self.options
        sight = Sight(judge.serving, judge.outputs, judge.loss, tuple(options.metric), options.limits)
        samples = parted(judge.dataset, judge.samples, options.int8_samples, options.seed)
        place = int8_name(compact)
        self.say("quantizing, calibrated on training samples")
        try:
            return write_int8(
                load(compact),
                place,
                written,
                sight,
                samples,
                options,
                self.say,
                is_timed=not options.skip_latency,
            )
        except REFUSALS as error:
            raise kept_float(error, Path(compact), place) from error

    def _told(self, name: str, judgement: Judgement, more: str = "") -> None:
        self.say(f"{name}: {judgement.told()} on {judgement.samples:,} test samples{more}")


def by_data(source: str | os.PathLike[str], opened: Opened, options: PruneOptions, say: Say) -> ByData:
    """Return what prunes a model by data. Raises what `judge_on` does, and UnsupportedError."""
    if options.int8 and any(is_quantized(node) for node in opened.analysis.graph.nodes):
        raise UnsupportedError(f"'{opened.path.name}' is quantized already: leave --int8 out")
    return ByData(opened, options, judge_on(source, opened, options, say), say)
