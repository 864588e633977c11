"""Curves of training as shapes in a square of 1000: a page stretches them to whatever width it has.

Words and numbers are no part of that: they stand beside it at shares of its width and height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_oto.reporting.metrics import Logged

SIDE = 1000
ROUNDING = 1e-5
"""Relative: values that are nearer than that are drawn as one."""
MOST_POINTS = 500
"""Points that a curve is drawn with; of more, means of neighbours."""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """One line of a chart. style: by what a page knows it. path: of SVG. points: (step, value) for who asks."""

    name: str
    style: str
    path: str
    points: Points


@dataclass(frozen=True)
class Tick:
    """A number on an axis, and at which share of its length it stands."""

    at: float
    text: str


@dataclass(frozen=True)
class Band:
    """A part of the plan: shares of the width where it begins and how wide it is."""

    name: str
    at: float
    width: float


@dataclass(frozen=True)
class Chart:
    """Curves over the steps. plan: the share of groups that is zero, as an area of SVG; unit: of the numbers.

    end: the last step. digits: how values are written.
    """

    key: str
    title: str
    curves: tuple[Curve, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    bands: tuple[Band, ...]
    plan: str
    end: float
    low: float
    high: float


@dataclass(frozen=True)
class Level:
    """A line across a chart: the metric of the model as it was brought, say."""

    name: str
    style: str
    value: float


def charts(
    logged: Logged, prunable: int | None = None, levels: Sequence[Level] = (), epochs: int | None = None
) -> tuple[Chart, ...]:
    """Return loss, metric, learning rate and zero groups over the steps, as far as they were logged.

    prunable: groups that there are, for shares of them. levels: lines in the chart of the metric. epochs: as many as
    there will be, where fewer were trained.
    """
    end = float(logged.last_step)
    if end <= 0:
        return ()
    if epochs is not None and logged.per_epoch:
        end = max(end, epochs * logged.per_epoch)
    zero = _of(logged, "zeroed")
    whole = prunable or max((value for _, value in (*zero, *_of(logged, "target"))), default=0)
    share = [(step, value / whole) for step, value in zero] if whole else []
    target = [(step, value / whole) for step, value in _of(logged, "target")] if whole else []
    test = [(e["step"], e.get("test_loss")) for e in logged.epochs]
    split = next((str(e["split"]) for e in logged.epochs if e.get("split")), "test")
    split = "validation" if split == "val" else split
    metric = next((str(e["metric"]) for e in logged.epochs if e.get("metric")), "metric")
    values = _numbers((e["step"], e.get("value")) for e in logged.epochs)
    sign = [level for level in levels if math.isfinite(level.value)]
    rate = _numbers((s["step"], s.get("lr")) for s in (logged.steps or logged.epochs))
    chart = _maker(logged, end, share)
    found = [
        chart(
            "loss",
            "Loss",
            [
                (
                    "training, step by step",
                    "faint",
                    _numbers((s["step"], s.get("loss")) for s in logged.steps),
                ),
                (
                    "training, mean of the epoch",
                    "first",
                    _numbers((e["step"], e.get("loss")) for e in logged.epochs),
                ),
                (f"{split} data", "second", _numbers(test)),
            ],
        ),
        chart(
            "metric",
            f"{metric[:1].upper()}{metric[1:]} on {split} data",
            [
                (f"{split} {metric}", "second", values),
                *((each.name, each.style, [(0.0, each.value), (end, each.value)]) for each in sign if values),
            ],
        )
        if metric != "loss"
        else None,
        chart("lr", "Learning rate", [("learning rate", "first", rate)], from_zero=True),
        chart(
            "zero",
            "Zero groups, as a share of all that may go"
            if prunable
            else "Zero groups, as a share of those that go",
            [("zero", "first", share), ("what the plan ends at", "level", target)],
            from_zero=True,
            shares=True,
        )
        if any(value for _, value in share)
        else None,
    ]
    return tuple(each for each in found if each is not None)


def _maker(logged: Logged, end: float, share: Points) -> Callable[..., Chart | None]:
    """Return what makes a chart, with all that charts have in common; None where it has no points."""
    bands = tuple(Band(p.name, p.begin / end, (p.end - p.begin) / end) for p in logged.phases())
    plan = _area(share, end)
    across = _across(logged, end)

    def make(
        key: str,
        title: str,
        lines: Sequence[tuple[str, str, Points]],
        *,
        from_zero: bool = False,
        shares: bool = False,
    ) -> Chart | None:
        drawn = [(name, style, thinned(points)) for name, style, points in lines if points]
        every = [value for _, style, points in drawn for _, value in points if style != "faint"]
        every = every or [value for _, _, points in drawn for _, value in points]
        if not every:
            return None
        low, high = (0.0 if from_zero else min(every)), max(every)
        faint = sorted(value for _, style, points in drawn for _, value in points if style == "faint")
        if faint:  # single steps may jump far: what most of them do is shown, the others leave the picture
            low, high = min(low, faint[len(faint) // 50]), max(high, faint[-1 - len(faint) // 50])
        low, high = widened(low, high)
        low, high = (0.0, 1.0) if shares else (low, high)
        ticks = nice(low, high)
        texts = [f"{value:.0%}" for value in ticks] if shares else told(ticks)
        low, high = min(low, ticks[0]), max(high, ticks[-1])
        up = tuple(Tick((value - low) / (high - low), text) for value, text in zip(ticks, texts, strict=True))
        curves = tuple(
            Curve(name, style, _path(points, end, low, high), points) for name, style, points in drawn
        )
        return Chart(key, title, curves, across, up, bands, plan, end, low, high)

    return make


def _of(logged: Logged, key: str) -> list[tuple[float, float]]:
    """Return a figure that steps and epochs have, in order."""
    records = sorted((*logged.steps, *logged.epochs), key=lambda record: record["step"])
    return _numbers((each["step"], each.get(key)) for each in records)


def _numbers(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[float, float]]:
    """Return the pairs that are finite numbers."""
    return [
        (float(x), float(y))
        for x, y in pairs
        if isinstance(y, int | float) and not isinstance(y, bool) and math.isfinite(y)
    ]


def thinned(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most so many points: the means of as many neighbours each, the last one as it is.

    >>> thinned([(1, 4.0), (2, 2.0), (3, 1.0), (4, 1.0)], 2)
    [(1.5, 3.0), (4, 1.0)]
    """
    if len(points) <= most:
        return list(points)
    found = []
    for number in range(most):
        part = points[number * len(points) // most : (number + 1) * len(points) // most]
        found.append((sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)))
    return [*found[:-1], points[-1]]


def widened(low: float, high: float) -> tuple[float, float]:
    """Return a range with room around what is one value but for rounding: metrics are logged in six digits.

    >>> widened(0.142857, 1 / 7), widened(0.0, 0.0), widened(0.25, 0.5)
    ((0.0714285, 0.21428571428571427), (-0.5, 0.5), (0.25, 0.5))
    """
    if high - low > ROUNDING * max(abs(low), abs(high)):
        return low, high
    return low - 0.5 * abs(low or 1.0), high + 0.5 * abs(high or 1.0)


def nice(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers, evenly apart, that cover a range.

    >>> nice(0.0, 0.93), nice(12, 48)
    ([0.0, 0.25, 0.5, 0.75, 1.0], [10.0, 20.0, 30.0, 40.0, 50.0])
    """
    span = (high - low) / about
    power = 10.0 ** math.floor(math.log10(span))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def told(ticks: Sequence[float]) -> list[str]:
    """Return the texts of ticks, with as many digits behind the point as tell them apart.

    >>> told([0.0, 0.25, 0.5]), told([0, 20000]), told([0.0, 0.00001]), told([0.99991, 0.99992])
    (['0', '0.25', '0.5'], ['0', '20,000'], ['0', '1e-05'], ['0.99991', '0.99992'])
    """
    for digits in range(4, 9):
        texts = [f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}" for value in ticks]
        if len(set(texts)) == len(texts):
            break
    return texts


def _across(logged: Logged, end: float) -> tuple[Tick, ...]:
    """Return ticks for epochs, or for steps before one is complete."""
    per = logged.per_epoch
    last = end / per if per else end
    every = max(1, *(int(each) for each in _steps_of(last)))
    return tuple(Tick(number / last, f"{number:,}") for number in range(0, int(last + 1e-6) + 1, every))


def _steps_of(last: float) -> list[float]:
    span = max(last / 6, 1e-9)
    power = 10.0 ** math.floor(math.log10(span))
    return [next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span * (1 - 1e-9))]


def _path(points: Points, end: float, low: float, high: float) -> str:
    return "M" + "L".join(
        f"{x / end * SIDE:.1f} {SIDE - (min(max(y, low), high) - low) / (high - low) * SIDE:.1f}"
        for x, y in points
    )


def _area(points: Points, end: float) -> str:
    """Return a share over the steps as an area from the bottom."""
    if not points:
        return ""
    drawn = thinned(points)
    return f"{_path([(drawn[0][0], 0.0), *drawn, (drawn[-1][0], 0.0)], end, 0.0, 1.0)}Z"


def looked_up(chart: Chart) -> Mapping[str, Any]:
    """Return what a page needs to tell the values under a pointer."""
    return {
        "end": chart.end,
        "low": chart.low,
        "high": chart.high,
        "curves": [
            {
                "name": c.name,
                "style": c.style,
                "points": [[round(x, 1), float(f"{y:.5g}")] for x, y in c.points],
            }
            for c in chart.curves
        ],
    }
