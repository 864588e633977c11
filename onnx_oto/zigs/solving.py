"""How many units of each family go, so that as little as possible is lost under budgets.

minimise  sum over families f of loss_f(k_f)
so that   cost_j(k) <= budget_j for every budget j, and k_f one of the numbers that f may lose.

Losses are convex, costs sums of products of widths (see `terms`): in the logarithms of widths that is a geometric
program, all but for whole numbers. A price for each budget makes families independent of each other: each loses what
costs less than it saves at the present widths. Prices rise where a budget is exceeded and fall where it is not
(multiplicative weights). What is found is brought under the budgets unit by unit, filled up, and improved by exchanges
until none of those tried helps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_oto.lanes.layout import FloatArray, IntArray
from onnx_oto.zigs.counting import Costs
from onnx_oto.zigs.units import Family

ROUNDS = 60
"""Of prices. The widths of DenseNet-121 no longer move after some 40."""
TRIALS = 300
"""Of exchanges, fewer where each takes long."""
WORK = 3_000_000
"""Pairs of a family and a term that all exchanges together may look at: about half a second."""
_SLACK = 1e-9
_NONE = -1


def everything(families: Sequence[Family]) -> IntArray:
    """Return the counts at which all goes that may go: int64 [F]."""
    return np.array([family.steps[-1] for family in families], np.int64)


def nothing(families: Sequence[Family]) -> IntArray:
    """Return the counts at which only that goes that is gone: int64 [F]."""
    return np.array([family.steps[0] for family in families], np.int64)


def total_loss(families: Sequence[Family], counts: IntArray) -> float:
    """Return the loss at these counts."""
    return float(_losses(families, counts).sum())


def fits(costs: Costs, counts: IntArray) -> bool:
    """Return whether every budget is kept."""
    return bool((costs.at(counts) <= 1 + _SLACK).all())


def under_budgets(costs: Costs, *, polish: bool = True) -> IntArray:
    """Return counts of the least loss under budgets that can be kept: int64 [F]. No step back would fit.

    polish: whether exchanges are tried, which take most of the time.
    """
    families = costs.families
    counts = nothing(families)
    if not families or fits(costs, counts):
        return counts
    found = filled(costs, descended(costs, _priced(costs)))
    greedy = filled(costs, descended(costs, counts))
    if total_loss(families, greedy) < total_loss(families, found):
        found = greedy
    return improved(costs, found) if polish else found


def _priced(costs: Costs) -> IntArray:
    """Return counts at prices at which the budgets are about kept."""
    families = costs.families
    counts = nothing(families)
    price = np.full(costs.number, float(sum(family.size for family in families)))
    level = counts.astype(np.float64)
    for turn in range(ROUNDS):
        worth = price @ _savings(costs, counts)
        wanted = [_answer(family, each) for family, each in zip(families, worth, strict=True)]
        level += (np.array(wanted, np.float64) - level) * 0.5
        near = [nearest_step(family, each) for family, each in zip(families, level, strict=True)]
        counts = np.array(near, np.int64)
        price *= np.clip(costs.at(counts), 0.2, 5.0) ** (3.0 if turn < ROUNDS // 2 else 1.0)
        price = np.maximum(price, 1e-12)
    return counts


def _savings(costs: Costs, counts: IntArray) -> FloatArray:
    """Return what a unit costs at these widths, the next one of each family or else the last: float64 [costs, F]."""
    on, back = moved(costs.families, counts), moved(costs.families, counts, back=True)
    to = np.where(on > counts, on, back)
    return np.abs(costs.changes(counts, to)) / np.maximum(np.abs(to - counts), 1)


def _answer(family: Family, worth: float) -> int:
    """Return how many units a family loses at `worth` a unit: as long as a step costs less than it saves."""
    steps = family.steps
    slopes = np.diff(family.loss[steps]) / np.diff(steps)
    return int(steps[np.searchsorted(slopes, worth, side="right")])


def nearest_step(family: Family, level: float) -> int:
    """Return the number of units that may go nearest to `level`, the smaller one of two."""
    at = int(np.searchsorted(family.steps, level))
    near = family.steps[max(at - 1, 0) : at + 1]
    return int(near[np.argmin(np.abs(near - level))])


def moved(families: Sequence[Family], counts: IntArray, back: bool = False) -> IntArray:
    """Return the next larger numbers that may go, or the next smaller ones; the same where there is none."""
    if back:
        return np.array([f.backward[k] for f, k in zip(families, counts, strict=True)], np.int64)
    return np.array([f.onward[k] for f, k in zip(families, counts, strict=True)], np.int64)


def _losses(families: Sequence[Family], counts: IntArray) -> FloatArray:
    return np.array([f.loss[k] for f, k in zip(families, counts, strict=True)])


def descended(costs: Costs, counts: IntArray, held: int = _NONE) -> IntArray:
    """Return counts with steps added, those first that lose least for what they save, until every budget is kept.

    held: a family that loses no more, unless nothing else does it.
    """
    families, counts = costs.families, counts.copy()
    while True:
        over = costs.at(counts) - 1
        if (over <= _SLACK).all():
            return counts
        on = moved(families, counts)
        saved = -costs.changes(counts, on)
        short = np.where(over > _SLACK, over, np.inf)
        useful = np.minimum(saved / short[:, None], 1.0).sum(0)
        lost = _losses(families, on) - _losses(families, counts)
        able = (on > counts) & (useful > 0)
        if able.sum() > 1 or (able.any() and not able[held]):
            able[held] &= held == _NONE
        if not able.any():
            return everything(families)
        ratio = np.where(able, lost / np.where(able, useful, 1.0), np.inf)
        best = int(np.argmin(ratio))
        counts[best] = on[best]


def filled(costs: Costs, counts: IntArray, held: int = _NONE, quota: FloatArray | None = None) -> IntArray:
    """Return counts with steps taken back as long as one fits, those first that win most for what they cost.

    held: a family that takes nothing back. quota: units of every family that should go; instead those come first that
    have lost most beyond it, as a share of their size.
    """
    families, counts = costs.families, counts.copy()
    sizes = np.array([len(family.units) for family in families], np.float64)
    while True:
        back = moved(families, counts, back=True)
        cost = costs.changes(counts, back)
        room = 1 + _SLACK - costs.at(counts)
        able = (back < counts) & (cost <= room[:, None]).all(0)
        if held != _NONE:
            able[held] = False
        if not able.any():
            return counts
        if quota is None:
            won = _losses(families, counts) - _losses(families, back)
            order = won / np.maximum(cost.max(0, initial=0.0), 1e-12)
        else:
            order = (counts - quota) / sizes
        best = int(np.argmax(np.where(able, order, -np.inf)))
        counts[best] = back[best]


def improved(costs: Costs, counts: IntArray) -> IntArray:
    """Return counts after exchanges: a family loses a step or two more or less, and the others mend what that does."""
    families = costs.families
    best, least = counts, total_loss(families, counts)
    left = min(TRIALS, WORK // (costs.work or 1))
    changed = True
    while changed and left > 0:
        changed = False
        for family in _promising(costs, best):
            for back, steps in ((True, 1), (False, 1), (True, 2), (False, 2)):
                trial = best.copy()
                for _ in range(steps):
                    trial[family] = moved(families, trial, back=back)[family]
                if trial[family] == best[family]:
                    continue
                left -= 1
                found = filled(costs, filled(costs, descended(costs, trial, family), family))
                loss = total_loss(families, found)
                if fits(costs, found) and loss < least - 1e-9 * max(abs(least), 1.0):
                    best, least, changed = found, loss, True
            if left <= 0:
                break
    return best


def _promising(costs: Costs, counts: IntArray) -> list[int]:
    """Return families, those first whose loss for a saving is farthest from that of others: they should exchange."""
    families = costs.families
    if not families:
        return []
    on, back = moved(families, counts), moved(families, counts, back=True)
    here = _losses(families, counts)
    gained = (here - _losses(families, back)) / np.maximum(costs.changes(counts, back).sum(0), 1e-12)
    lost = (_losses(families, on) - here) / np.maximum(-costs.changes(counts, on).sum(0), 1e-12)
    both = np.where(back < counts, gained, lost)
    middle = float(np.median(both)) or 1.0
    apart = np.abs(np.log(np.maximum(both, 1e-300) / max(middle, 1e-300)))
    return [int(each) for each in np.argsort(-apart, kind="stable")]
