"""The optimizer of a run: which groups there are, which may go, and what weight decay is for."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from onnx_oto.gradients import GradientSession
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.optim import GroupIndex, Optimizer, Select, Stretch, Task
from onnx_oto.pipeline.budgeting import Goal
from onnx_oto.pipeline.norms import Norms
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.zigs import Analysis, choose
from onnx_oto.zigs.blocks import lane_scores, zig_blocks
from onnx_oto.zigs.decay import undecayed


def make_optimizer(
    analysis: Analysis,
    session: GradientSession,
    options: TrainOptions,
    steps: int,
    goal: Goal,
    norms: Norms | None = None,
    gone: BoolArray | None = None,
) -> Optimizer:
    """Return the optimizer of a run of `steps` steps over the flat buffers of `session`.

    gone: bool [lanes], what went before the first step. Steps that may be skipped are taken off for the plan: the
    groups are zero in time even if all of them are.
    """
    norms = norms or Norms()
    entries, lanes = zig_blocks(analysis, session.slices, norms.beside)
    groups = GroupIndex(tuple(Stretch(*entry) for entry in entries), int(lanes.size))
    method = options.method
    task = Task(
        method.direction,
        session.params.size,
        groups,
        selector(analysis, lanes, options, goal),
        max(steps - options.skip_bad_steps, 1),
        decayed(analysis, session, frozenset(norms.trained), everything=options.decay_all),
        preset=None if gone is None else gone[lanes],
        still=stretches(session, session.still),
    )
    return method.optimizer.build(task)


def selector(analysis: Analysis, lanes: IntArray, options: TrainOptions, goal: Goal) -> Select:
    """Return the function that chooses ZIGs under every constraint of the model. lanes: int64 [K], of the ZIGs."""

    def select(
        scores: npt.NDArray[np.float64], share: float = 1.0, gone: BoolArray | None = None
    ) -> BoolArray:
        before = np.zeros(analysis.lanes.count, bool)
        if gone is not None:
            before[lanes] = gone
        choice = choose(
            analysis,
            lane_scores(analysis, lanes, scores),
            options.share,
            budgets=goal.budgets,
            part=share,
            scope=options.scope,
            round_to=goal.rounding,
            min_keep=options.min_keep,
            gone=before,
        )
        return choice.drop[lanes]

    return select


def decayed(
    analysis: Analysis,
    session: GradientSession,
    scales: Collection[str] = (),
    *,
    everything: bool = False,
) -> tuple[slice, ...]:
    """Return the stretches of the flat buffers that weight decay is for.

    Not for norms and biases (see `zigs.decay`) unless `everything`, and never for what has no gradient. scales: of
    norms that the analysis does not know.
    """
    spared = session.still if everything else session.still.union(undecayed(analysis), scales)
    return stretches(session, session.slices.keys() - spared)


def stretches(session: GradientSession, names: Collection[str]) -> tuple[slice, ...]:
    """Return where these parameters lie in the flat buffers, in the order of the buffers."""
    return tuple(
        slice(offset, offset + math.prod(shape))
        for name, (offset, shape) in session.slices.items()
        if name in names
    )
