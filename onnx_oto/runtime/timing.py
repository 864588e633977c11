"""Latency of several models, interleaved, so that they share the machine's good and bad moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.runtime.runner import time_models


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run of one model: median, fastest, slowest and how many were counted."""

    median: float
    low: float
    high: float
    runs: int


def latency(
    models: Sequence[onnx.ModelProto],
    feed: Mapping[str, npt.NDArray[Any]],
    *,
    seconds: float = 2.0,
    most: int = 200,
    threads: int = 0,
) -> list[Latency]:
    """Return the latency of every model on the same inputs, models in turn, for about `seconds` in all.

    Two rounds warm up and are not counted; at least five are. threads: of onnxruntime, 0 = its default.
    """
    times = time_models(models, feed, seconds=seconds, most=most, threads=threads)
    return [Latency(float(np.median(t)), min(t), max(t), len(t)) for t in times]
