"""Latency of several models, interleaved, so that they share the machine's good and bad moments."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import psutil

from onnx_oto.errors import CrashedError, LimitError, RuntimeMissingError, UnsupportedError
from onnx_oto.runtime.comparing.inputs import sizes_of, slots
from onnx_oto.runtime.intervals import median_interval
from onnx_oto.runtime.runner import Runner, first_line, in_onnxruntime, runner, time_runners
from onnx_oto.runtime.sessions import LEAST_ROUNDS, Patience
from onnx_oto.runtime.worker import JobFailed

Arrays = Mapping[str, npt.NDArray[Any]]

FEWEST_RUNS = 3
"""With fewer, an interval says nothing: three slow runs follow three fast ones by chance once in twenty times."""
MARGIN = 1.03
"""How many times as long one model takes at least where it is called slower. Runs are not quite independent: of a model
that takes 4 us and is timed against itself intervals are apart in 7 of 40 cases, the medians by 1.3 % at most."""
LEAST_MS = 0.001
"""How much longer it takes at least there: models of some microseconds are timed to a few tenths of one."""
TROUBLES = (UnsupportedError, RuntimeMissingError, LimitError, CrashedError, JobFailed)
"""What keeps a model from being timed, and is no defect of ours."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run of one model: the median, its 95 % interval, and how many runs were counted."""

    median: float
    low: float
    high: float
    runs: int

    @property
    def text(self) -> str:
        """The median for people, such as "3.21 ms"."""
        digits = sum(self.median < limit for limit in (0.01, 1, 10, 100))
        return f"{self.median:,.{digits}f} ms"


@dataclass(frozen=True)
class Latencies:
    """Full against compact model on one feed, in turn. at: the sizes that open axes had in it.

    ratio: the 95 % interval of how many times as long as the full model the compact one took in the same round. What
    else the machine does in a round disturbs both, so it is narrower than their own intervals tell.
    batch: the size of the first axis of what was fed, None when nothing that was fed has one.
    """

    full: Latency
    compact: Latency
    ratio: tuple[float, float]
    runtime: str
    threads: int
    batch: int | None = None
    at: Mapping[str, int] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """The share of the full model's time that the compact one takes."""
        return self.compact.median / self.full.median

    @property
    def is_faster(self) -> bool:
        """Whether the compact model is faster beyond the interval, and by more than nobody notices."""
        return self.ratio[1] < 1 and _is_longer(self.full, self.compact)

    @property
    def is_slower(self) -> bool:
        """Whether the compact model is slower beyond the interval, and by more than nobody notices."""
        return self.ratio[0] > 1 and _is_longer(self.compact, self.full)

    def as_json(self) -> dict[str, Any]:
        """Return the figures under their public names."""
        full, small = self.full, self.compact
        return {
            "full": round(full.median, 4),
            "compact": round(small.median, 4),
            "full_interval": [round(full.low, 4), round(full.high, 4)],
            "compact_interval": [round(small.low, 4), round(small.high, 4)],
            "ratio_interval": [round(bound, 4) for bound in self.ratio],
            "runs": full.runs,
            "runtime": self.runtime,
            "threads": self.threads,
            "batch": self.batch,
            "at": dict(self.at),
        }


def _is_longer(one: Latency, other: Latency) -> bool:
    return one.median > max(MARGIN * other.median, other.median + LEAST_MS)


@dataclass(frozen=True)
class Untimed:
    """Why there is no latency."""

    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the reason where the figures would stand."""
        return {"full": None, "compact": None, "not_measured": self.reason}


def latency(
    models: Sequence[onnx.ModelProto],
    feed: Arrays,
    *,
    seconds: float = 2.0,
    most: int = 200,
    threads: int = 0,
) -> list[Latency]:
    """Return the latency of every model on the same inputs, models in turn, for about `seconds` in all.

    Two rounds warm up and are not counted; at least five are. threads: of onnxruntime, 0 = its default.
    """
    patience = Patience(short=seconds, many=LEAST_ROUNDS, long=seconds, most=most, longest=math.inf)
    runners = [runner(model, threads=threads) for model in models]
    return [_latency(times) for times in time_runners(runners, feed, patience)]


def measure(
    full: onnx.ModelProto,
    compact: onnx.ModelProto,
    feed: Arrays,
    *,
    patience: Patience = Patience(),  # noqa: B008 - a value
    threads: int = 0,
    opened: Runner | None = None,
) -> Latencies | Untimed:
    """Return the latency of both models on the same inputs in onnxruntime, or why there is none.

    threads: of onnxruntime, 0 = its default. opened: a runner of the full model, if there is one.
    """
    try:
        first = opened or in_onnxruntime(full, threads=threads)
        times = time_runners([first, in_onnxruntime(compact, threads=threads)], feed, patience)
    except TROUBLES as error:
        return Untimed(first_line(error))
    if len(times[0]) < FEWEST_RUNS:
        return Untimed(f"{FEWEST_RUNS} runs of both models take longer than {patience.longest:.0f} s")
    return compared(full, feed, times[0], times[1], first.runtime, threads or default_threads())


def compared(
    model: onnx.ModelProto,
    feed: Arrays,
    full: Sequence[float],
    compact: Sequence[float],
    runtime: str,
    threads: int,
) -> Latencies:
    """Return what the milliseconds of a model and of its compact form, measured in turn on a feed, say."""
    batch = next((len(array) for array in feed.values() if np.ndim(array)), None)
    ratio = median_interval([small / large for large, small in zip(full, compact, strict=True)])
    at = sizes_of(slots(model), feed)
    return Latencies(_latency(full), _latency(compact), ratio, runtime, threads, batch, at)


def default_threads() -> int:
    """Return how many threads onnxruntime computes with if it is not told: one for each core of the machine."""
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _latency(times: Sequence[float]) -> Latency:
    return Latency(float(np.median(times)), *median_interval(times), len(times))
