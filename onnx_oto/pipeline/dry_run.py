"""`train --dry-run`: everything up to the first step, a few steps that are thrown away, and what they tell."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_oto.data.splitting import Chosen
from onnx_oto.gradients import GradientSession
from onnx_oto.pipeline.budgeting import Plan, plan, widths_of
from onnx_oto.pipeline.cutting_first import cut_first
from onnx_oto.pipeline.folder import require_claimable
from onnx_oto.pipeline.optimizing import make_optimizer
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.preparing import make_ready, with_norms
from onnx_oto.pipeline.ready import Ready, Say
from onnx_oto.pipeline.recording import Record
from onnx_oto.pipeline.summary import SCHEMA
from onnx_oto.pipeline.train import recipe_of, require_own_files, settled_by_start, steps_of
from onnx_oto.runtime.limits import limited
from onnx_oto.training import Event, Recipe, Stepped, evaluate
from onnx_oto.training import train as run_loop
from onnx_oto.zigs import Choice

SECONDS, MOST, LEAST = 5.0, 40, 6
"""How long steps are tried, how many of them at most, and how many at least."""
WARM_UP = 2
"""Steps that do not count: memory is still being taken."""
JUDGED = 512
"""Samples that an evaluation is timed on."""
AT_THE_END = 3
"""Times that test data are judged besides the epochs: the original, the full and the compact model."""


@dataclass(frozen=True)
class Rehearsal:
    """What a run would do. plan: what would go, None where nothing does; widths: by dimension, before and after.

    is_drawn: whether which groups go is drawn at random, as training decides. steps: of the run. step, evaluation,
    before: seconds of a step, of all test or validation samples, and of what comes before the first step.
    """

    run: Path
    options: TrainOptions
    plan: Plan | None
    is_drawn: bool
    widths: Mapping[str, tuple[int, int]]
    steps: int
    samples: int
    shards: int
    step: float
    tried: int
    evaluation: float
    before: float

    @property
    def seconds(self) -> float:
        """How long the run takes, about: steps, evaluations, and before and behind them what it took now."""
        judged = (self.options.epochs + AT_THE_END) * self.evaluation
        return self.steps * self.step + judged + 2 * self.before

    @property
    def rate(self) -> float:
        """Samples a second, while batches are trained."""
        return self.samples / self.step if self.step else 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        planned = {} if self.plan is None else {**self.plan.as_json(), **self.plan.expected()}
        return {
            "schema": SCHEMA,
            "dry_run": True,
            **planned,
            "drawn": self.is_drawn,
            "widths": {name: list(sizes) for name, sizes in self.widths.items()},
            "steps": self.steps,
            "samples_per_step": self.samples,
            "shards": self.shards,
            "seconds_per_step": round(self.step, 6),
            "steps_tried": self.tried,
            "samples_per_second": round(self.rate, 2),
            "seconds_per_evaluation": round(self.evaluation, 4),
            "estimated_seconds": round(self.seconds, 1),
            "options": self.options.as_json(),
            "run": str(self.run),
        }


class _Tried:
    """Watches steps, and says when there were enough of them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._end = time.perf_counter() + SECONDS

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        if isinstance(event, Stepped):
            self.seconds.append(event.seconds)

    def is_enough(self) -> bool:
        """Return whether it may stop."""
        done = len(self.seconds)
        return done >= MOST or (done >= LEAST and time.perf_counter() > self._end)

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds[WARM_UP:] or self.seconds or [0.0])


def rehearse(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    run: str | os.PathLike[str],
    options: TrainOptions | None = None,
    *,
    say: Say = lambda text: None,
) -> Rehearsal:
    """Return what training the model at `path` on `source` would do, and how long it takes; nothing is written.

    Whatever `train` refuses is refused. Data that have to be unpacked go to a temporary folder, unless the options
    name one.
    """
    begin = time.perf_counter()
    options = options or TrainOptions()
    require_own_files(run, path, source, options)
    require_claimable(run, verb="train", overwrite=options.overwrite)
    if options.table is not None and not os.path.lexists(options.table):
        options = replace(options, table=None)
    with tempfile.TemporaryDirectory(prefix="onnx-oto-") as cache:
        ready = make_ready(path, source, options, say, cache=Path(cache))
        options, _ = settled_by_start(ready, options, Record("train", options), say)
        if options.cuts_first:
            ready = cut_first(ready, options, None, say, stored=False)
        ready = with_norms(ready, options)
        with limited(options.limits):
            session = ready.preparation.build(ready.others)
        before = time.perf_counter() - begin
        try:
            say("trying steps, which are thrown away")
            tried, evaluation = _timed(ready, options, session)
            planned, widths = _planned(ready)
            recipe = recipe_of(ready, options)
            return Rehearsal(
                Path(run),
                options,
                planned,
                ready.cut is None,
                widths,
                steps_of(ready, options),
                recipe.batch * recipe.accumulate,
                session.shards,
                tried.median,
                len(tried.seconds),
                evaluation,
                before,
            )
        finally:
            session.close()


def _timed(ready: Ready, options: TrainOptions, session: GradientSession) -> tuple[_Tried, float]:
    """Return the steps that were tried, and the seconds of an evaluation after an epoch."""
    recipe = recipe_of(ready, options)
    gone = None if ready.cut is None else ready.cut.drop
    steps = steps_of(ready, options)
    optimizer = make_optimizer(ready.opened.analysis, session, options, steps, ready.goal, ready.norms, gone)
    tried = _Tried()
    run_loop(session, optimizer, ready.looked_at(options), recipe, observer=tried, stop=tried.is_enough)
    return tried, _evaluation(ready, recipe, session)


def _evaluation(ready: Ready, recipe: Recipe, session: GradientSession) -> float:
    """Return the seconds that judging all validation or test samples takes, by some of them."""
    looked_at = ready.dataset.test if ready.dataset.val is None else ready.dataset.val
    some = Chosen(looked_at, np.arange(min(len(looked_at), JUDGED)))
    begin = time.perf_counter()
    evaluate(session.predict, some, recipe.loss, recipe.metrics, providers=recipe.providers)
    return (time.perf_counter() - begin) * len(looked_at) / max(len(some), 1)


def _planned(ready: Ready) -> tuple[Plan | None, dict[str, tuple[int, int]]]:
    """Return what goes, and the sizes of the dimensions that lose something."""
    if ready.cut is not None and ready.brought is not None:
        brought, drop = ready.brought, ready.cut.drop
        prunable = sum(each.size for each in brought.analysis.prunable)
        choice = Choice(drop, int(drop.sum()), prunable)
        made = plan(brought, choice, ready.goal.budgets, ready.goal.rounding)
        return made, widths_of(brought.analysis, drop)
    planned = ready.goal.planned
    return planned, {} if planned is None else widths_of(ready.opened.analysis, planned.choice.drop)
