"""Compact models of many widths, measured: what a table is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.lanes.solution import BoolArray
from onnx_oto.pipeline.latency.attributing import Event, events
from onnx_oto.runtime.bench import Bench, Measured
from onnx_oto.surgery import cut
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.totals import at_share
from onnx_oto.zigs.units import dropped, families
from onnx_oto.zigs.widths import Rounding, rounded, told_apart

Feed = Mapping[str, npt.NDArray[Any]]
Say = Callable[[str], None]

SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Of every family, that go in the regular probes."""
IRREGULAR = 5
"""Probes in which every family loses another share, which tells apart what inputs and outputs of a node cost."""
SECONDS, PASSES = 25.0, 2
"""For all probes together, the runs that are not counted apart; in how many processes."""
MOST_BYTES = 1 << 30
"""Of the models that are open at a time, the full one apart."""


@dataclass(frozen=True, eq=False)
class Probe:
    """A compact model that was measured. drop: bool [lanes]. aligned: whether its widths are what kernels like.

    ms: milliseconds of a run, as if the full model had taken in this moment what it did at first. nodes: of its events.
    others: the share of the processors that other work had.
    """

    drop: BoolArray
    aligned: bool
    ms: float
    low: float
    high: float
    nodes: Mapping[Event, float]
    others: float


def probes(analysis: Analysis, rounding: Rounding, seed: int = 0) -> Iterator[tuple[BoolArray, bool]]:
    """Yield the lanes that go in each probe, bool [lanes], none in the first, and whether widths are multiples."""
    rng = np.random.default_rng(seed)
    offered = rounded(
        analysis,
        families(analysis, rng.random(analysis.lanes.count), apart=told_apart(analysis)),
        rounding,
    )
    yield np.zeros(analysis.lanes.count, bool), True
    for share in SHARES:
        yield dropped(analysis, offered, at_share(offered, share).tolist()), True
    for _ in range(IRREGULAR):
        yield dropped(analysis, offered, [int(rng.choice(family.steps)) for family in offered]), True
    just_below = [
        min(count + 1, family.limit)
        for count, family in zip(at_share(offered, 0.5).tolist(), offered, strict=True)
    ]
    yield dropped(analysis, offered, just_below), False


def measured(analysis: Analysis, bench: Bench, feed: Feed, rounding: Rounding, say: Say) -> list[Probe]:
    """Return the probes, measured in turn with the full model, in PASSES processes one after the other.

    A process has moods (where its memory lies, who else has the caches) in which all models take longer, but not all
    the same: on one machine MobileNetV2 took 1.9 or 2.8 ms, and half of its channels 0.40 or 0.44 of that, at random.
    Models that are measured together share them, and passes even them out.
    """
    every = list(probes(analysis, rounding))
    passes: list[list[_Seen]] = []
    for number in range(PASSES):
        bench.close()  # the next request starts another process
        seen: list[_Seen] = []
        for group in _groups(analysis, [drop for drop, _ in every]):
            share = len(group) / len(every)
            full, *rest = bench.measure(
                [analysis.model, *group], feed, seconds=SECONDS / PASSES * share, nodes=True
            )
            seen += [_Seen(full, own) for own in rest]
            say(f"measured {len(seen)} of {len(every)} widths{f', pass {number + 1}' if PASSES > 1 else ''}")
        passes.append(seen)
    usual = float(np.median([_usual(seen.full) for one in passes for seen in one]))
    return [
        _probe(drop, aligned, usual, [one[place] for one in passes])
        for place, (drop, aligned) in enumerate(every)
    ]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A compact model, and the full one that was measured beside it."""

    full: Measured
    own: Measured


def _groups(analysis: Analysis, drops: Sequence[BoolArray]) -> Iterator[list[onnx.ModelProto]]:
    """Yield the compact models, so many at once as memory allows."""
    group: list[onnx.ModelProto] = []
    size = 0
    for drop in drops:
        model = cut(analysis, drop).model if drop.any() else analysis.model
        if group and size + model.ByteSize() > MOST_BYTES:
            yield group
            group, size = [], 0
        group.append(model)
        size += model.ByteSize()
    if group:
        yield group


def _probe(drop: BoolArray, aligned: bool, usual: float, seen: Sequence[_Seen]) -> Probe:
    """Return what several passes say of a model, were the full one always to take `usual` milliseconds."""
    scales = [usual / _usual(each.full) for each in seen]
    nodes: dict[Event, float] = {}
    for each, scale in zip(seen, scales, strict=True):
        for event, ms in events(each.own.nodes).items():
            nodes[event] = nodes.get(event, 0.0) + ms * scale / len(seen)

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(np.array(values) * scales))

    return Probe(
        drop,
        aligned,
        mean([_usual(each.own) for each in seen]),
        mean([each.own.timing.low for each in seen]),
        mean([each.own.timing.high for each in seen]),
        nodes,
        max(each.own.others for each in seen),
    )


def _usual(found: Measured) -> float:
    """Return the lower quartile: other work on the machine only ever adds."""
    return sorted(found.timing.times)[found.timing.runs // 4]
