"""Latency over channels is a staircase: how wide and how crooked its steps are on a runtime, found by measuring."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.runtime.bench.driver import Bench

CHANNELS = (24, 26, 28, 30, 32, 33, 34, 36, 38, 40, 44, 47, 48, 52, 56, 60, 62, 63, 64, 65, 80, 96)
"""Some of every kind: odd ones, and odd multiples of 2, 4, 8, 16 and 32."""
_ENDS, _SIDE, _KERNEL = 32, 28, 3
_SECONDS, _MOST = 4.0, 400
_CLIFF = 1.2
_WITNESSES = 2
_FLAT = 0.5
_BLOCKS = (32, 16, 8, 4)
"""One channel more or less, as a block of 2 has it, is three percent of the work: too little to be told from noise."""


@dataclass(frozen=True)
class Staircase:
    """What a number of channels costs on a runtime.

    alignment: numbers that are no multiple of it can be clearly slower than larger ones that are; 1: there is no such
    cliff. block: what costs are rounded up to, a multiple of `alignment`; 1: they grow smoothly. times: the shortest
    run of the chain that was measured, in milliseconds, by its number of channels.
    """

    alignment: int
    block: int
    times: Mapping[int, float]


def probe_block(bench: Bench) -> Staircase:
    """Return the staircase of the runtime, in about five seconds. Raises what `Bench.measure` raises.

    Chains of four 3x3 convolutions with Relu at 28x28, 32 -> C -> C -> C -> 32 channels, run in turn on one thread; the
    shortest of many runs counts, because other work on the machine only ever adds. See `staircase` for what follows.
    """
    x = np.random.default_rng(0).random((1, _ENDS, _SIDE, _SIDE), np.float32)
    models = [chain(channels) for channels in CHANNELS]
    measured = bench.measure(models, {"x": x}, seconds=_SECONDS, most=_MOST, threads=1)
    return staircase({c: min(each.timing.times) for c, each in zip(CHANNELS, measured, strict=True)})


def staircase(times: Mapping[int, float]) -> Staircase:
    """Return what the milliseconds t[C] of chains with C channels say.

    **alignment.** C is on a cliff if t[C] > 1.2 t[D] for a D > C: more work takes less time. Let d(C) be the largest
    power of two that divides C. The alignment is twice the largest d that two or more C on a cliff have, 1 if there
    is none. Two, because one may be a bad moment of the machine.

    **block.** If costs are rounded up to multiples of b, or of more, the step from C = b (m - 1/2) to D = b m is
    free: both fill the same blocks. Else it costs what its work does, w(C) = 2 · 32 C + 2 C² multiplications per
    pixel and tap. Its growth is log(t[D] / t[C]) / log(w(D) / w(C)): 0 where it is free, about 1 where it is not. The
    block is the largest b of 32, 16, 8, 4 that is no less than the alignment and whose median growth over all m
    that were measured is below 1/2; if there is none, it is the alignment.

    >>> padded = {c: 1e-3 * work(-(-c // 16) * 16) for c in CHANNELS}
    >>> found = staircase({c: t if c % 4 == 0 else 1.5 * t for c, t in padded.items()})
    >>> found.alignment, found.block
    (4, 16)
    """
    falls = [c & -c for c, t in times.items() if any(d > c and t > _CLIFF * times[d] for d in times)]
    alignment = max((2 * d for d in falls if falls.count(d) >= _WITNESSES), default=1)
    for block in _BLOCKS:
        growths = [
            _growth(times, c, c + block // 2)
            for c in times
            if c % block == block // 2 and c + block // 2 in times
        ]
        if block >= alignment and growths and statistics.median(growths) < _FLAT:
            return Staircase(alignment, block, dict(times))
    return Staircase(alignment, alignment, dict(times))


def work(channels: int) -> int:
    """Return the multiplications of a chain per pixel and tap of its kernels."""
    return 2 * _ENDS * channels + 2 * channels * channels


def _growth(times: Mapping[int, float], fewer: int, more: int) -> float:
    return math.log(times[more] / times[fewer]) / math.log(work(more) / work(fewer))


def chain(channels: int) -> onnx.ModelProto:
    """Return the chain of convolutions with so many channels in its middle, from x [1, 32, 28, 28]."""
    rng = np.random.default_rng(channels)
    nodes, weights, last = [], [], "x"
    sizes = (_ENDS, channels, channels, channels, _ENDS)
    for number, (read, made) in enumerate(itertools.pairwise(sizes)):
        values = rng.standard_normal((made, read, _KERNEL, _KERNEL), np.float32)
        values *= math.sqrt(2 / (read * _KERNEL**2))
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(helper.make_node("Conv", [last, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        last = f"r{number}"
    shape = [1, _ENDS, _SIDE, _SIDE]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
