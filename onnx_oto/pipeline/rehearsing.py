"""The rehearsal of the cut: random groups under the options of a run, before its first step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from onnx_oto import data
from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.budgeting import Goal, budgets_of, plan, rounding_of, within
from onnx_oto.pipeline.latency.making import Clock, clock_for
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import DEFAULT_SPARSITY, TrainOptions
from onnx_oto.pipeline.proving import require_passed
from onnx_oto.pipeline.ready import Say
from onnx_oto.pipeline.sizes import open_inputs
from onnx_oto.runtime.comparing import Feeding, compare
from onnx_oto.surgery import Compacted, kept_inside
from onnx_oto.zigs import Analysis, Choice, choose, score, zero_dropped
from onnx_oto.zigs.budgets import Budget
from onnx_oto.zigs.choose import choose_all
from onnx_oto.zigs.widths import Rounding


def rehearse(
    opened: Opened,
    serving: Serving,
    opening: data.Opening,
    feeding: Feeding,
    options: TrainOptions,
    say: Say,
) -> tuple[Feeding, Goal]:
    """Cut random groups out and verify: what cannot be compacted is refused now, not after training.

    Returns what it was verified on: `feeding`, or, where the model does not run so, at the sizes of the data too; and
    what is asked for, with what surgery adds taken into account. Raises UsageError when `min_keep` keeps the run from
    its target, OtoError where the cut is not exact.
    """
    with clock_for(opened, options, feeding, say) as clock:
        begin = time.perf_counter()
        analysis = opened.analysis
        choice, result, goal = _rehearsed(opened, options, say, clock)
        inside = kept_inside(analysis, choice.drop, result)
        full = zero_dropped(analysis, choice.drop)
        try:
            verdict = compare(full, result.model, feeding=feeding, inside=inside)
        except UnsupportedError:
            shapes = _shapes_of_data(opened, serving, opening)
            if not shapes.keys() - feeding.shapes.keys():
                raise
            feeding = replace(feeding, shapes={**shapes, **feeding.shapes})
            verdict = compare(full, result.model, feeding=feeding, inside=inside)
        require_passed(verdict, "training was not started")
        say(
            f"rehearsal of the cut on random groups: exact in {verdict.runtime} ({time.perf_counter() - begin:.1f} s)"
        )
        return feeding, goal


def _shapes_of_data(opened: Opened, serving: Serving, opening: data.Opening) -> dict[str, tuple[int, ...]]:
    """Return the shapes that inputs with open sizes have for two samples of the data, as the model counts axes."""
    shapes = {}
    found = data.sample_shapes(opening.train, open_inputs(serving.served(opened.master)))
    for name, sample in found.items():
        axis = serving.axes.get(name, 0)
        shapes[name] = (*sample[:axis], 2, *sample[axis:])
    return shapes


def _require_room(
    analysis: Analysis, options: TrainOptions, rounding: Rounding, choice: Choice, most: int
) -> None:
    """Raise UsageError when `min_keep` keeps the choice from the `most` groups that go without it.

    Fewer may go because the widths that are left add up to none nearer, which the plan says.
    """
    left = choose_all(analysis, rounding, options.min_keep).dropped
    if left < min(most, choice.wanted or most):
        raise UsageError(
            f"sparsity {options.share:g} asks for {most} of {choice.prunable} groups, min-keep "
            f"{options.min_keep:g} leaves only {left} of them: lower one of the two"
        )


def _rehearsed(
    opened: Opened, options: TrainOptions, say: Say, clock: Clock | None
) -> tuple[Choice, Compacted, Goal]:
    """Return random groups under the options of the run, cut; says what will go, as far as that is known by now.

    Raises UsageError when `min_keep` keeps the run from its target.
    """
    analysis = opened.analysis
    scores = score(analysis, "random", options.seed)
    share = DEFAULT_SPARSITY if options.share == 0 else options.share  # at 0 there is still a cut to rehearse

    def chosen(budgets: Sequence[Budget], min_keep: float = options.min_keep) -> Choice:
        return choose(
            analysis,
            scores,
            share,
            budgets=budgets,
            scope=options.scope,
            round_to=rounding,
            min_keep=min_keep,
        )

    known = clock.table if clock else None
    budgets = budgets_of(opened, options, clock)
    rounding = rounding_of(analysis, options, budgets, options.scope, options.min_keep, known=known)
    kept = within(opened, budgets, chosen)
    choice = kept.choice
    if options.share is not None and choice.dropped < (most := chosen(kept.budgets, 0.0).dropped):
        _require_room(analysis, options, rounding, choice, most)
    planned = None
    if options.share != 0:
        planned = replace(plan(opened, choice, kept.budgets, rounding), drawn=True)
        for sentence in (*planned.sentences(), *planned.warnings()):
            say(sentence)
    return choice, kept.result, Goal(kept.budgets, rounding, known, planned)
