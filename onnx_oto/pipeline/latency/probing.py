"""Compact models of many widths, measured: what a table is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.lanes.solution import BoolArray
from onnx_oto.pipeline.latency.attributing import Event, events
from onnx_oto.runtime.bench import Bench
from onnx_oto.surgery import cut
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.totals import at_share
from onnx_oto.zigs.units import Family, families
from onnx_oto.zigs.widths import Rounding, rounded, told_apart

Feed = Mapping[str, npt.NDArray[Any]]

SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Of every family, that go in the regular probes."""
IRREGULAR = 5
"""Probes in which every family loses another share, which tells apart what inputs and outputs of a node cost."""
SECONDS = 25.0
"""For all probes together, the runs that are not counted apart."""


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
        yield _dropped(analysis, offered, at_share(offered, share).tolist()), True
    for _ in range(IRREGULAR):
        yield _dropped(analysis, offered, [int(rng.choice(family.steps)) for family in offered]), True
    just_below = [
        min(count + 1, family.limit)
        for count, family in zip(at_share(offered, 0.5).tolist(), offered, strict=True)
    ]
    yield _dropped(analysis, offered, just_below), False


def _dropped(analysis: Analysis, offered: tuple[Family, ...], counts: list[int]) -> BoolArray:
    drop = np.zeros(analysis.lanes.count, bool)
    for family, count in zip(offered, counts, strict=True):
        drop[family.units[:count].reshape(-1)] = True
    return drop


def measured(analysis: Analysis, bench: Bench, feed: Feed, rounding: Rounding) -> Iterator[Probe]:
    """Yield the probes, each measured in turn with the full model, so that moods of the machine cancel out."""
    usual = 0.0
    every = list(probes(analysis, rounding))
    seconds = SECONDS / len(every)
    for drop, aligned in every:
        models: list[onnx.ModelProto] = [analysis.model]
        if drop.any():
            models.append(cut(analysis, drop).model)
        full, *rest = bench.measure(models, feed, seconds=seconds, nodes=True)
        own = rest[0] if rest else full
        usual = usual or full.timing.median
        scale = usual / full.timing.median
        yield Probe(
            drop,
            aligned,
            own.timing.median * scale,
            own.timing.low * scale,
            own.timing.high * scale,
            {event: ms * scale for event, ms in events(own.nodes).items()},
            own.others,
        )
