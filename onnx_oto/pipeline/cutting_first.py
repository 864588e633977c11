"""Groups that go before the first step: chosen by what training data show, and their readers fitted anew.

For optimizers that only hold them at zero then (`optim.CUT_FIRST`). What is found is stored in the folder of the run:
it takes minutes, and going on must find the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_oto.data.npyhead import DAMAGE
from onnx_oto.errors import StorageError
from onnx_oto.gradients import prepare
from onnx_oto.model.files.replace import replacing
from onnx_oto.model.files.saving import storing
from onnx_oto.peers.seam import ALONE, Peers
from onnx_oto.pipeline.budgeting import plan, within
from onnx_oto.pipeline.folder import START, RunFolder
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.ready import Cut, Ready, Say
from onnx_oto.pipeline.refitting import fitted, full_without, lane_losses, look, share_read
from onnx_oto.zigs import Choice, analyse, choose
from onnx_oto.zigs.budgets import Budget

_VALUE = "value:"
MOSTLY_READ = 0.5
"""The share of groups whose readers have to be known, for a cut to come first without being asked for."""


def cut_first(
    ready: Ready,
    options: TrainOptions,
    folder: RunFolder | None,
    say: Say,
    *,
    stored: bool,
    peers: Peers = ALONE,
) -> Ready:
    """Return what is ready with the groups gone, and the original beside it.

    stored: whether what an earlier part of the run found counts, which lies in its folder. peers: who train with this
    process; the first of them finds out. Raises LimitError and CrashedError.
    """

    def known_or_found() -> Cut:
        known = _stored(folder.path / START) if stored and folder is not None else None
        return _found(ready, options, say) if known is None else known

    found = peers.told(known_or_found)
    aim, before = ready.aim, ready.preparation
    full = full_without(ready.opened.analysis, found.values, found.drop)
    opened = replace(ready.opened, analysis=analyse(full, aim.under(options)))
    model = ready.serving.served(aim.giving(opened.master))
    preparation = prepare(model, before.spec, before.backend)
    others = tuple(
        preparation.respecified(sample_shapes=each.spec.sample_shapes, target_shapes=each.spec.target_shapes)
        for each in ready.others
    )
    return replace(
        ready, opened=opened, preparation=preparation, others=others, brought=ready.opened, cut=found
    )


def store(ready: Ready, folder: RunFolder) -> None:
    """Write what was found into the folder of the run. Raises StorageError."""
    if ready.cut is None:
        return
    place = folder.place(START)
    arrays: dict[str, Any] = {f"{_VALUE}{name}": value for name, value in ready.cut.values.items()}
    with storing(place), replacing(place) as file:
        np.savez(file, **arrays, drop=ready.cut.drop)


def _stored(place: Path) -> Cut | None:
    """Return what was stored, None where nothing was."""
    if not place.exists():
        return None
    try:
        with np.load(place, allow_pickle=False) as found:
            values = {name.removeprefix(_VALUE): found[name] for name in found if name.startswith(_VALUE)}
            return Cut(np.array(found["drop"], np.bool_), values)
    except (OSError, *DAMAGE) as error:
        raise StorageError(
            f"'{place}', the cut that the run began with, cannot be read ({error}): start a new run"
        ) from error


def changeable(ready: Ready) -> frozenset[str]:
    """Return the initializers that a refit may change: what trains, and running statistics."""
    return frozenset((*ready.preparation.spec.trainable, *ready.opened.analysis.statistics))


def is_worth_it(ready: Ready) -> bool:
    """Say whether layers that can be fitted anew read most of the groups: else a cut would only destroy."""
    return share_read(ready.opened, changeable(ready)) >= MOSTLY_READ


def _found(ready: Ready, options: TrainOptions, say: Say) -> Cut:
    opened = ready.opened
    analysis = opened.analysis
    seen = look(
        opened,
        ready.serving,
        ready.aim.outputs,
        ready.dataset.train,
        samples=options.refit_samples,
        seed=options.seed,
        limits=options.limits,
        say=say,
        changed=changeable(ready),
        alike=not ready.others,
    )
    losses = lane_losses(seen, seed=options.seed, limits=options.limits, say=say)

    def choosing(budgets: Sequence[Budget]) -> Choice:
        return choose(
            analysis,
            losses,
            options.share,
            budgets=budgets,
            scope=options.scope,
            round_to=ready.goal.rounding,
            min_keep=options.min_keep,
            additive=True,
        )

    kept = within(opened, ready.goal.budgets, choosing)
    for sentence in plan(opened, kept.choice, kept.budgets, ready.goal.rounding).sentences():
        say(sentence)
    return Cut(kept.choice.drop, fitted(seen, kept.choice.drop, limits=options.limits, say=say).values)
