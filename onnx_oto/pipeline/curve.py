"""`inspect --curve`: what would be left if a share of the groups went, what ends it, and the loss at every share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from onnx_oto.lanes.solution import BoolArray
from onnx_oto.pipeline.budgeting import model_costs, rounding_of
from onnx_oto.pipeline.judging import Judge, Judgement
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import InspectOptions, PruneOptions
from onnx_oto.pipeline.summary import Change
from onnx_oto.zigs import Choice, Dimension, choose, score
from onnx_oto.zigs.budgets import Budget
from onnx_oto.zigs.choose import NEAR, largest_cause
from onnx_oto.zigs.widths import Rounding, fixed

SHARES = tuple(tenth / 10 for tenth in range(10))
MOST = 1 - 1e-9
"""The largest share that can be asked for: what constraints keep stays."""

Say = Callable[[str], None]
Estimate = Callable[[BoolArray], float | None]
"""Lanes that go, bool [lanes] -> the milliseconds that the compact model is estimated to take, None: not known."""


@dataclass(frozen=True)
class Point:
    """What is left of a model when a share of its groups goes.

    sparsity: the share that is asked for; achieved: what goes. round_to: what widths keep a multiple of. Figures are
    counted without what surgery adds; size: of the file, in bytes. milliseconds: of the full and the compact model,
    estimated. why: what keeps more from going where that is missed by more than a twentieth, or where nothing more can
    go. judgement: on data.
    """

    sparsity: float
    achieved: float
    removed: int
    prunable: int
    round_to: int
    params: Change
    macs: Change
    size: Change
    milliseconds: tuple[float, float] | None = None
    why: str | None = None
    judgement: Judgement | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it under the names that `prune` uses."""
        figures = {"params": self.params, "macs": self.macs, "bytes": self.size}
        found: dict[str, Any] = {
            "sparsity": {"target": self.sparsity, "achieved": self.achieved},
            "lanes": {"prunable": self.prunable, "removed": self.removed},
            "round_to": self.round_to,
            **{name: {"before": each.before, "after": each.after} for name, each in figures.items()},
        }
        if self.milliseconds is not None:
            found["estimated_ms"] = dict(zip(("before", "after"), self.milliseconds, strict=True))
        if self.judgement is not None:
            found |= self.judgement.as_json()
        return {**found, "why": self.why}


@dataclass(frozen=True)
class End:
    """The most that can go. reasons: what keeps the rest, in words."""

    achieved: float
    removed: int
    params: Change
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        params = {"before": self.params.before, "after": self.params.after}
        return {
            "sparsity": self.achieved,
            "removed": self.removed,
            "params": params,
            "reasons": list(self.reasons),
        }


def curve(
    opened: Opened,
    options: InspectOptions,
    *,
    judge: Judge | None = None,
    estimated_ms: Estimate | None = None,
    say: Say = lambda text: None,
) -> tuple[tuple[Point, ...], End]:
    """Return what is left at every one of SHARES, as `prune` would choose, and the end of it.

    judge: what gives the loss of a choice. `say` gets a sentence about each.
    """
    looked = _Look(opened, options)
    points: list[Point] = []
    judged: dict[bytes, Judgement] = {}
    for sparsity in SHARES:
        begin = time.perf_counter()
        choice, point = looked.at(sparsity)
        if estimated_ms is not None:
            point = replace(point, milliseconds=_estimated(estimated_ms, choice.drop))
        if judge is not None:
            key = choice.drop.tobytes()
            judgement = judged[key] = judged.get(key) or judge.of(choice)
            point = replace(point, judgement=judgement)
            say(f"share {sparsity:g}: {judgement.told()} ({time.perf_counter() - begin:.1f} s)")
        points.append(point)
    return tuple(points), looked.end()


def _estimated(estimated_ms: Estimate, drop: BoolArray) -> tuple[float, float] | None:
    full, left = estimated_ms(drop & False), estimated_ms(drop)
    return None if full is None or left is None else (full, left)


class _Look:
    """What can be chosen in a model, and what it costs."""

    def __init__(self, opened: Opened, options: InspectOptions) -> None:
        self._analysis, self._options = opened.analysis, options
        self._scores = score(opened.analysis, options.ranking, options.seed)
        self._costs = model_costs(opened)
        self._limits: dict[tuple[Rounding, float], int] = {}

    def at(self, sparsity: float) -> tuple[Choice, Point]:
        """Return the choice for a share, and what it leaves."""
        rounding = self._rounding(sparsity)
        choice = self._chosen(sparsity, rounding)
        params, macs, size = (self._change(each, choice) for each in self._costs)
        point = Point(
            sparsity,
            choice.share,
            choice.dropped,
            choice.prunable,
            rounding.block,
            params,
            macs,
            size,
            why=self._why(sparsity, choice, rounding),
        )
        return choice, point

    def end(self) -> End:
        """Return the most that can go, and what keeps the rest."""
        rounding = self._rounding(MOST)
        choice = self._chosen(MOST, rounding)
        params = self._costs[0]
        left = params.told(params.cost(choice.drop))
        stays = f"{left} stay then; {largest_cause(self._analysis, params, choice.drop)}"
        reasons = (*self._causes(choice, rounding), stays)
        return End(choice.share, choice.dropped, self._change(params, choice), reasons)

    def _rounding(self, sparsity: float) -> Rounding:
        options = self._options
        asked = PruneOptions(sparsity=sparsity, scope=options.reach, round_to=options.round_to)
        return rounding_of(self._analysis, asked, (), options.reach, options.min_keep)

    def _chosen(self, sparsity: float, rounding: Rounding, min_keep: float | None = None) -> Choice:
        return choose(
            self._analysis,
            self._scores,
            sparsity,
            scope=self._options.reach,
            round_to=rounding,
            min_keep=self._options.min_keep if min_keep is None else min_keep,
        )

    def _limit(self, rounding: Rounding, min_keep: float | None = None) -> int:
        """Return how many groups can go at most."""
        key = (rounding, self._options.min_keep if min_keep is None else min_keep)
        if key not in self._limits:
            self._limits[key] = self._chosen(MOST, rounding, min_keep).dropped
        return self._limits[key]

    def _change(self, cost: Budget, choice: Choice) -> Change:
        before = round(cost.full)
        return Change(before, round(cost.cost(choice.drop)) if choice.dropped else before)

    def _why(self, sparsity: float, choice: Choice, rounding: Rounding) -> str | None:
        """Return what keeps a choice from its share, None where that is met or nearly so."""
        wanted = choice.wanted or 0
        if choice.dropped < wanted and choice.dropped == self._limit(rounding):
            return "nothing more can go: " + "; ".join(self._causes(choice, rounding))
        if abs(choice.dropped - wanted) <= NEAR * wanted:
            return None
        is_width = rounding.block > 1 and self._chosen(sparsity, fixed(1)).dropped != choice.dropped
        what = f"widths in multiples of {rounding.block}" if is_width else "channels that go together"
        return f"{choice.dropped:,} groups are the nearest to {wanted:,} that {what} allow"

    def _causes(self, choice: Choice, rounding: Rounding) -> list[str]:
        """Return what keeps groups when all goes that may go."""
        found, options = [], self._options
        if more := self._limit(fixed(1)) - choice.dropped:
            found.append(f"widths in multiples of {rounding.block} keep {more:,} groups (see --round-to)")
        if options.reach == "global" and (more := self._limit(rounding, 0.0) - choice.dropped):
            found.append(f"--min-keep {options.min_keep:g} keeps {more:,} groups")
        dimensions = self._analysis.prunable
        left = [(d, d.size - int(choice.drop[d.lanes].sum())) for d in dimensions]
        if not found:
            found += _held([(d, kept) for d, kept in left if kept > 1])
        if last := sum(kept == 1 for _, kept in left):
            found.insert(0, f"{last} of {len(dimensions)} dimensions are down to their last channel")
        return found or ["no dimension can be pruned"]


def _held(dimensions: Sequence[tuple[Dimension, int]]) -> Iterator[str]:
    """Yield which dimensions keep more than a channel, the largest by name, and by which constraint."""
    if dimensions:
        dimension, kept = max(dimensions, key=lambda each: each[1])
        rule = "; ".join(dimension.constraints[1:]) or "each part of a split keeps one"
        others = f", and {len(dimensions) - 1} more keep several" if len(dimensions) > 1 else ""
        yield f"'{dimension.name}' keeps {kept} of {dimension.size} channels ({rule}){others}"
