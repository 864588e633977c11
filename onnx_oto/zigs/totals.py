"""A number of lanes that goes, exactly: which numbers can go at all, and the best way to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.layout import FloatArray, IntArray
from onnx_oto.zigs.solving import nearest_step
from onnx_oto.zigs.units import Family

_FIRST_REACH = 4


def nearest_total(families: Sequence[Family], wanted: int) -> int:
    """Return the number of lanes nearest to `wanted` (the smaller one of two) that families can lose together."""
    reachable = 1
    for family in families:
        steps = family.steps
        if (np.diff(steps) == 1).all():
            reachable = _in_a_row(reachable << int(steps[0]) * family.step, len(steps), family.step)
        else:
            shifted = 0
            for count in steps.tolist():
                shifted |= reachable << count * family.step
            reachable = shifted
    most = reachable.bit_length() - 1
    for away in range(max(wanted, most) + 1):
        for total in (wanted - away, wanted + away):
            if 0 <= total <= most and reachable >> total & 1:
                return total
    return 0


def _in_a_row(bits: int, number: int, step: int) -> int:
    """Return bits | bits << step | ... of `number` shifts."""
    done = 1
    while done < number:
        more = min(done, number - done)
        bits |= bits << more * step
        done += more
    return bits


def at_price(families: Sequence[Family], total: int) -> IntArray:
    """Return counts of least loss with about `total` lanes: every family loses what costs less than a price a lane."""
    slopes = [np.diff(family.loss[family.steps]) / np.diff(family.steps) / family.step for family in families]
    every = np.sort(np.concatenate([np.zeros(1), *slopes]))
    low, high = 0, len(every) - 1
    while low < high:  # the lowest price at which enough goes
        middle = (low + high) // 2
        if lanes_of(families, _answers(families, slopes, float(every[middle]))) < total:
            low = middle + 1
        else:
            high = middle
    return _answers(families, slopes, float(every[low]))


def _answers(families: Sequence[Family], slopes: Sequence[FloatArray], price: float) -> IntArray:
    found = [f.steps[np.searchsorted(s, price, side="right")] for f, s in zip(families, slopes, strict=True)]
    return np.array(found, np.int64)


def lanes_of(families: Sequence[Family], counts: IntArray) -> int:
    """Return how many lanes go at these counts."""
    return int(sum(k * f.step for f, k in zip(families, counts, strict=True)))


def by_now(families: Sequence[Family], counts: IntArray, share: float) -> IntArray:
    """Return a share of `counts`, int64 [F]: of every family, and together as many lanes as whole units allow.

    What is gone counts. Families whose share is farthest from whole units make up for what others lack.
    """
    if share >= 1.0:
        return counts
    wanted = share * counts
    found: IntArray = np.maximum(
        np.floor(wanted + 1e-9).astype(np.int64), [family.gone for family in families]
    )
    missing = share * lanes_of(families, counts) - lanes_of(families, found)
    for number in np.argsort(found - wanted, kind="stable").tolist():
        step = families[number].step
        if found[number] < counts[number] and missing >= step / 2:
            found[number] += 1
            missing -= step
    return found


def quotas(families: Sequence[Family], share: float) -> FloatArray:
    """Return units of every family at the same share of its lanes: float64 [F], within what each may lose."""
    units, least, most = _bounds(families)
    result: FloatArray = np.clip(share * units, least, most)
    return result


def _bounds(families: Sequence[Family]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return how many units every family has, counted by its lanes, and how many it loses at least and at most."""
    found = np.array([(f.size / f.step, f.steps[0], f.steps[-1]) for f in families], np.float64).reshape(
        -1, 3
    )
    units, least, most = found.T
    return units, least, most


def share_for(families: Sequence[Family], total: int) -> float:
    """Return the share at which the quotas add up to `total` lanes, as near as can be."""
    low, high = 0.0, 1.0
    sizes = np.array([family.step for family in families], np.float64)
    units, least, most = _bounds(families)
    for _ in range(60):
        middle = (low + high) / 2
        if float(np.clip(middle * units, least, most) @ sizes) < total:
            low = middle
        else:
            high = middle
    return high


def at_share(families: Sequence[Family], share: float) -> IntArray:
    """Return the counts nearest to the same share of every family: int64 [F]."""
    return np.array(
        [nearest_step(f, each) for f, each in zip(families, quotas(families, share), strict=True)], np.int64
    )


def beside_quotas(families: Sequence[Family], share: float) -> tuple[Family, ...]:
    """Return families that may only lose the steps next to their quotas, one below and one above."""
    found = []
    for family, quota in zip(families, quotas(families, share), strict=True):
        above = int(np.searchsorted(family.steps, quota - 1e-9))
        found.append(replace(family, steps=family.steps[max(above - 1, 0) : above + 1]))
    return tuple(found)


def unevenness(families: Sequence[Family], share: float) -> list[FloatArray]:
    """Return, for every family and number of dropped units, how far that is from its quota, as a loss."""
    found = []
    for number, (family, quota) in enumerate(zip(families, quotas(families, share), strict=True)):
        units = np.arange(len(family.units) + 1)
        away = np.square((units - quota) * family.step) / family.size
        found.append(away - units * 1e-9 * (len(families) - number))  # of equals the first ones lose more
    return found


def to_total(
    families: Sequence[Family], losses: Sequence[FloatArray], counts: IntArray, total: int
) -> IntArray:
    """Return counts with exactly `total` lanes, which can be reached, and the least sum of losses near `counts`.

    Dynamic programming over families and lanes: a few steps of each family around `counts`, more when those do not do.
    """
    start = lanes_of(families, counts)
    reach, every = _FIRST_REACH, max((len(family.steps) for family in families), default=1)
    while True:
        found = _within(families, losses, counts, total - start, reach)
        if found is not None or reach >= every:
            break
        reach *= 2
    return counts if found is None else found


def _within(
    families: Sequence[Family], losses: Sequence[FloatArray], counts: IntArray, wanted: int, reach: int
) -> IntArray | None:
    """Return counts with `wanted` lanes more, no family more than `reach` steps from `counts`; None: there are none."""
    options = []
    for family, count in zip(families, counts, strict=True):
        at = int(np.searchsorted(family.steps, count))
        options.append(family.steps[max(at - reach, 0) : at + reach + 1])
    spans = [(o - c) * f.step for o, c, f in zip(options, counts, families, strict=True)]
    longest = max((int(np.abs(span).max(initial=0)) for span in spans), default=0)
    half = abs(wanted) + 2 * longest + 1
    best = np.full(2 * half + 1, np.inf)
    best[half] = 0.0
    choices = np.zeros((len(families), 2 * half + 1), np.int32)
    for number, (offered, span, loss) in enumerate(zip(options, spans, losses, strict=True)):
        after = np.full_like(best, np.inf)
        for option, (count, lanes) in enumerate(zip(offered.tolist(), span.tolist(), strict=True)):
            shifted = _shifted(best, lanes) + loss[count]
            better = shifted < after
            after[better] = shifted[better]
            choices[number][better] = option
        best = after
    place = half + wanted
    if not np.isfinite(best[place]):
        return None
    result = counts.copy()
    for number in range(len(families) - 1, -1, -1):
        option = int(choices[number][place])
        result[number] = options[number][option]
        place -= int(spans[number][option])
    return result


def _shifted(values: FloatArray, by: int) -> FloatArray:
    """Return values moved by so many places, inf where nothing comes from."""
    result = np.full_like(values, np.inf)
    if by >= 0:
        result[by:] = values[: len(values) - by]
    else:
        result[:by] = values[-by:]
    return result
