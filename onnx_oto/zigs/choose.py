"""Which lanes to drop: by score, for a number of lanes or under budgets, under every constraint of the model.

Used by `prune` (scores of the weights as they are), by the optimizers (saliency after warm-up), so that training
never asks for a model that cannot be built, and for what is zero already (`compact`, and after training).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.zigs.analysis import Analysis
from onnx_oto.zigs.budgets import Budget, OutOfReach
from onnx_oto.zigs.counting import Costs
from onnx_oto.zigs.groups import zero_lanes
from onnx_oto.zigs.solving import descended, everything, filled, fits, nothing, under_budgets
from onnx_oto.zigs.terms import terms
from onnx_oto.zigs.totals import (
    at_price,
    at_share,
    beside_quotas,
    by_now,
    lanes_of,
    nearest_total,
    quotas,
    share_for,
    to_total,
    unevenness,
)
from onnx_oto.zigs.units import Family, dropped, families
from onnx_oto.zigs.widths import Rounding, fixed, rounded, told_apart

NEAR = 0.05
"""How much of the share that is asked for coarse widths may miss, before finer ones are taken."""
_DEAREST, _HALVINGS = 1e9, 12
_LEAST_WEIGHT = 1e-3
"""Of a lane that gives nothing of what is to be saved, where 1 is usual: it does not go for nothing."""

Scope = Literal["dimension", "global"]


@dataclass(frozen=True, eq=False)
class Choice:
    """Lanes to drop, bool [lanes], and how many of the prunable ones that is. wanted: how many were asked for."""

    drop: BoolArray
    dropped: int
    prunable: int
    wanted: int | None = None

    @property
    def share(self) -> float:
        """The share of the prunable lanes."""
        return self.dropped / max(self.prunable, 1)


def choose(
    analysis: Analysis,
    scores: npt.NDArray[np.floating],
    sparsity: float | None = None,
    *,
    budgets: Sequence[Budget] = (),
    scope: Scope = "dimension",
    round_to: int | Rounding = 1,
    min_keep: float = 0.0,
    gone: BoolArray | None = None,
    part: float = 1.0,
    additive: bool = False,
) -> Choice:
    """Return the lanes to drop: round(sparsity * prunable lanes) of them, or as many as budgets ask for, or both.

    scores: [lanes], larger is more important; ties are broken by lane number. additive: whether they are losses that
    add up, comparable between dimensions. budgets: each is kept, and no further
    lane that constraints let stay would fit; with a sparsity besides, its number of lanes goes as near as they allow.
    scope "dimension": the same share in every dimension, as near as whole lanes allow; "global": so that least is lost
    (see `units.Family.loss`), every dimension keeping at least the share `min_keep`.
    round_to: what every axis that an operator sees keeps a multiple of, if it loses any (see `coarsest`).
    gone: bool [lanes], what an earlier choice dropped for good: it stays dropped, whatever its scores, and counts.
    Where it is given, if only empty, nothing is refused that was possible before: budgets are kept as nearly as can be.
    part: how much of all this goes by now, the same share of every family as near as whole units allow: only at 1 are
    widths what they should be, and budgets kept.
    Raises UsageError for a share outside [0, 1), for budgets that cannot be kept, and for two that contradict.
    """
    if sparsity is not None and not 0 <= sparsity < 1:
        raise UsageError(
            f"sparsity {sparsity} is not a share: give a number from 0 up to, but not including, 1"
        )
    prunable = sum(dimension.size for dimension in analysis.prunable)
    rounding = round_to if isinstance(round_to, Rounding) else fixed(round_to)
    if rounding.block < 1:
        raise UsageError(f"--round-to {round_to} is not a count: give 1 or more")
    values = np.asarray(scores, np.float64)
    offered = _offered(
        analysis, values, gone, min_keep if scope == "global" else 0.0, rounding, additive=additive
    )
    wanted = None if sparsity is None else math.floor(sparsity * prunable + 0.5)
    costs = Costs(offered, [each.counted() for each in budgets])
    if not additive:
        costs = weighed(costs, lanes=wanted is not None)
        offered = costs.families
    if gone is None and not fits(costs, everything(offered)):
        raise _impossible(analysis, values, budgets, min_keep if scope == "global" else 0.0, rounding)
    counts = _even(offered, costs, wanted) if scope == "dimension" else _best(offered, costs, wanted)
    drop = dropped(analysis, offered, by_now(offered, counts, part))
    choice = Choice(drop, int(drop.sum()), prunable, wanted)
    if sparsity is not None and gone is None and part == 1.0:
        _require_both(budgets, drop, sparsity, choice, scope)
    return choice


def choose_all(analysis: Analysis, rounding: Rounding | None = None, min_keep: float = 0.0) -> Choice:
    """Return all lanes that constraints let go together, `rounding` and `min_keep` (see `choose`) among them."""
    offered = _offered(analysis, np.zeros(analysis.lanes.count), None, min_keep, rounding or fixed(1))
    drop = dropped(analysis, offered, everything(offered))
    return Choice(drop, int(drop.sum()), sum(d.size for d in analysis.prunable))


def choose_zeros(analysis: Analysis, rounding: Rounding | None = None, min_keep: float = 0.0) -> Choice:
    """Return the lanes whose groups are exactly zero already: as many of them as the constraints let go.

    rounding: which widths are wanted; zeros that would spoil them stay. min_keep: what they were chosen with, for which
    widths can be had depends on it; where more is zero than it lets go, it is as if there were none.
    """
    zeros = zero_lanes(analysis)
    drop = zeros.copy()
    if rounding is not None and rounding.block > 1:
        drop = max((_zeros_at(analysis, zeros, rounding, each) for each in (min_keep, 0.0)), key=np.sum)
    _restore(analysis, drop, np.zeros(drop.size))
    return Choice(drop, int(drop.sum()), sum(d.size for d in analysis.prunable))


def _zeros_at(analysis: Analysis, zeros: BoolArray, rounding: Rounding, min_keep: float) -> BoolArray:
    """Return which of the lanes that are zero can go so that widths are as wanted: bool [lanes]."""
    offered = _offered(analysis, np.where(zeros, 0.0, 1.0), None, min_keep, rounding)
    counts = [f.steps[f.steps <= zeros[f.units].all(1).sum()][-1] for f in offered]
    return dropped(analysis, offered, np.array(counts, np.int64))


def coarsest(
    analysis: Analysis,
    sparsity: float | None,
    candidates: Sequence[Rounding],
    *,
    budgets: Sequence[Budget] = (),
    scope: Scope = "dimension",
    min_keep: float = 0.0,
) -> Rounding:
    """Return the first of `candidates` that is no hindrance; the last one where all others are.

    Budgets can be kept with it, the share is met to a twentieth of it (with scope "dimension" by steps next to the
    share of every dimension), and dimensions that are too short for their share do not make others lose a twentieth of
    their lanes more. A function of the model and of what is asked for, not of scores.
    """
    prunable = sum(dimension.size for dimension in analysis.prunable)
    scores = np.zeros(analysis.lanes.count)
    wanted = None if sparsity is None else math.floor(sparsity * prunable + 0.5)

    def tried(rounding: Rounding) -> tuple[tuple[Family, ...], Costs]:
        offered = _offered(analysis, scores, None, min_keep if scope == "global" else 0.0, rounding)
        return offered, Costs(offered, [each.counted() for each in budgets])

    def share(offered: tuple[Family, ...], costs: Costs) -> float:
        return share_for(offered, wanted) if wanted is not None else _share_under(offered, costs)

    finest = share(*tried(candidates[-1]))
    for rounding in candidates[:-1]:
        offered, costs = tried(rounding)
        if not fits(costs, everything(offered)):
            continue
        if wanted is not None:
            near = offered if scope == "global" else beside_quotas(offered, share(offered, costs))
            if abs(nearest_total(near, wanted) - wanted) > NEAR * wanted:
                continue
        if scope == "global" or share(offered, costs) <= finest + NEAR:
            return rounding
    return candidates[-1]


def _offered(
    analysis: Analysis,
    scores: npt.NDArray[np.float64],
    gone: BoolArray | None,
    min_keep: float,
    rounding: Rounding,
    *,
    additive: bool = False,
) -> tuple[Family, ...]:
    """Return the families, each with what it may lose."""
    apart = None if rounding.block == 1 else told_apart(analysis)
    found = families(analysis, scores, gone, min_keep, apart, additive=additive)
    return found if rounding.block == 1 else rounded(analysis, found, rounding)


def weighed(costs: Costs, *, lanes: bool) -> Costs:
    """Return the costs of families whose losses count for as much as the family has of what is to be saved.

    A family's weight is its share of each cost, of all that families could give, in the mean over the costs. Of
    families that look alike the same share goes then: a wide layer of a small image is not kept for having many
    channels, nor does a narrow one of a large image vanish for having few. lanes: whether a number of lanes is asked
    for besides, of which a family has its size.
    """
    families = costs.families
    sizes = np.array([f.size for f in families], np.float64)
    able = np.array([f.step * (f.steps[-1] - f.steps[0]) for f in families], np.float64)
    saved = -costs.changes(nothing(families), everything(families)) * sizes / np.maximum(able, 1.0)
    shares = np.concatenate([saved, sizes[None]] if lanes or not len(saved) else [saved])
    totals = shares.sum(1, keepdims=True)
    weights = (shares / np.where(totals > 0, totals, 1.0)).mean(0) * sizes.sum()
    weights = np.maximum(weights, _LEAST_WEIGHT * sizes)
    return costs.of([replace(f, loss=f.loss * (w / f.size)) for f, w in zip(families, weights, strict=True)])


def _even(offered: tuple[Family, ...], costs: Costs, wanted: int | None) -> IntArray:
    """Return counts at the same share of every family."""
    if wanted is not None:
        share = share_for(offered, wanted)
        beside = beside_quotas(offered, share)
        total = nearest_total(beside, wanted)
        is_coarse = any((np.diff(f.steps) > 1).any() for f in offered)
        if abs(total - wanted) > (NEAR * wanted if is_coarse else 0):
            beside, total = offered, nearest_total(offered, wanted)
        return to_total(beside, unevenness(beside, share), at_share(beside, share), total)
    high = _share_under(offered, costs)
    return filled(costs, descended(costs, at_share(offered, high)), quota=quotas(offered, high))


def _share_under(offered: tuple[Family, ...], costs: Costs) -> float:
    """Return the smallest share of every family at which budgets are kept."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(costs, at_share(offered, middle)) else (middle, high)
    return high


def _best(offered: tuple[Family, ...], costs: Costs, wanted: int | None) -> IntArray:
    """Return the counts at which least is lost."""
    if wanted is None:
        return under_budgets(costs)
    total = nearest_total(offered, wanted)
    counts = to_total(offered, [f.loss for f in offered], at_price(offered, total), total)
    return counts if fits(costs, counts) else _both(offered, costs, total)


def _both(offered: tuple[Family, ...], costs: Costs, total: int) -> IntArray:
    """Return counts under budgets with at most `total` lanes, and as many as that if it can be.

    Lanes that stay are a further budget. Where budgets alone let more go, the loss of a lane is raised until few enough
    go; those that are missing then go on top, and cost nothing.
    """
    staying = float(sum(f.size for f in offered) - total)
    found = under_budgets(costs.beside(terms((1.0, [f.lanes]) for f in offered), staying))
    if lanes_of(offered, found) == total:
        return found
    low, high = 0.0, 1.0
    found = _with_lanes_dear(offered, costs, np.inf)
    if lanes_of(offered, found) > total:
        return found
    while lanes_of(offered, trial := _with_lanes_dear(offered, costs, high)) > total and high < _DEAREST:
        low, high = high, 4 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        trial = _with_lanes_dear(offered, costs, middle)
        if lanes_of(offered, trial) <= total:
            found, high = trial, middle
        else:
            low = middle
    more = [replace(f, steps=f.steps[f.steps >= count]) for f, count in zip(offered, found, strict=True)]
    start = at_price(more, nearest_total(more, total))
    return to_total(more, [f.loss for f in more], start, nearest_total(more, total))


def _with_lanes_dear(offered: tuple[Family, ...], costs: Costs, price: float) -> IntArray:
    """Return counts under budgets where every lane costs `price` beside its loss; inf: nothing but its price."""
    lanes = [np.arange(len(f.units) + 1, dtype=np.float64) * f.step for f in offered]
    losses = [
        1e-6 * f.loss + each if price == np.inf else f.loss + price * each
        for f, each in zip(offered, lanes, strict=True)
    ]
    dear = tuple(replace(f, loss=loss) for f, loss in zip(offered, losses, strict=True))
    return under_budgets(costs.of(dear), polish=price == np.inf)


def _require_both(
    budgets: Sequence[Budget], drop: BoolArray, sparsity: float, choice: Choice, scope: Scope
) -> None:
    """Raise UsageError when a budget is not kept by the number of lanes that was asked for."""
    for each in budgets:
        if (cost := each.cost(drop)) > each.most * (1 + 1e-9):
            raise UsageError(
                f"--sparsity {sparsity:g} and --{each.name} {each.asked} contradict: {each.told(cost)} stay when "
                f"{choice.dropped} of {choice.prunable} groups go, the same share of every dimension: try --scope "
                "global, or leave one of the two out"
            )
    wanted = choice.wanted or 0
    if budgets and scope == "global" and choice.dropped > wanted + max(NEAR * choice.prunable, 2):
        *names, last = (f"--{each.name} {each.asked}" for each in budgets)
        listed = f"{', '.join(names)} and {last}" if names else last
        raise UsageError(
            f"--sparsity {sparsity:g} and {listed} contradict: {choice.dropped} of {choice.prunable} groups have to "
            f"go, where {wanted} are asked for: give --sparsity {_rounded_up(choice.share):g}, or leave one out"
        )


def _rounded_up(share: float) -> float:
    return math.ceil(1000 * share) / 1000


def _impossible(
    analysis: Analysis,
    scores: npt.NDArray[np.float64],
    budgets: Sequence[Budget],
    min_keep: float,
    rounding: Rounding,
) -> OutOfReach:
    """Return what stands against a budget, and what could be asked for."""
    offered = _offered(analysis, scores, None, min_keep, rounding)
    least = dropped(analysis, offered, everything(offered))
    each = max(budgets, key=lambda b: b.cost(least) / b.most)
    without = _offered(analysis, scores, None, 0.0, rounding)
    any_width = _offered(analysis, scores, None, min_keep, fixed(1))
    if min_keep and each.cost(dropped(analysis, without, everything(without))) <= each.most:
        cause = f"--min-keep {min_keep:g} keeps them: lower it"
    elif each.cost(dropped(analysis, any_width, everything(any_width))) <= each.most:
        cause = f"widths that are multiples of {rounding.block} keep them: give --round-to 1"
    else:
        cause = largest_cause(analysis, each, least)
    has_remedy = ": give" in cause or ": lower" in cause
    share = math.ceil(1000 * each.cost(least) / each.full) / 1000
    remedy = f"give --{each.name} {share:g} or more" if share <= 1 else f"leave --{each.name} out"
    return OutOfReach(
        f"--{each.name} {each.asked} cannot be reached: {each.told(each.cost(least))} stay when all goes that may go; "
        f"{cause}{', or ' if has_remedy else '; '}{remedy}",
        least,
    )


def largest_cause(analysis: Analysis, budget: Budget, least: BoolArray) -> str:
    """Return which frozen dimension would save most of a budget if it could go, and why it is frozen."""
    best, saved = None, 0.0
    for dimension in analysis.dimensions:
        if not dimension.prunable:
            drop = least.copy()
            drop[dimension.lanes] = True
            if (more := budget.cost(least) - budget.cost(drop)) > saved:
                best, saved = dimension, more
    if best is None:
        return "every dimension keeps a channel"
    return f"most of it is kept by '{best.name}' ({best.size} channels): {best.reason}"


def _restore(analysis: Analysis, drop: BoolArray, scores: npt.NDArray[np.float64]) -> None:
    """Keep further lanes, highest scores first, until no axis is empty and balanced rows are equal. In place."""
    changed = True
    while changed:
        changed = False
        for lanes in (*analysis.nonempty, *(d.lanes for d in analysis.prunable)):
            if drop[lanes].all():
                drop[lanes[np.argmax(scores[lanes])]] = False
                changed = True
        for rows, _ in analysis.lanes.balanced:
            gone = drop[rows].sum(1)
            for row in np.flatnonzero(gone > gone.min()):
                dropped = rows[row][drop[rows[row]]]
                order = np.argsort(-scores[dropped], kind="stable")
                drop[dropped[order[: gone[row] - gone.min()]]] = False
                changed = True
