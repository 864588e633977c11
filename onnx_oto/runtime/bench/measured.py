"""What is measured on the runtime that serves a model: where, how long a run takes, and where that time goes."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from onnx_oto.runtime.intervals import median_interval


@dataclass(frozen=True)
class Host:
    """Where models are measured: times from one host say little about another.

    runtime, version: as people say it ("ONNX Runtime", "1.32.0"). engine: the name it is chosen by. features: a digest
    of what the processor can do. cores: logical ones that the process may use.
    """

    runtime: str
    version: str
    engine: str
    processor: str
    features: str
    cores: int

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits, equal for equal hosts, whichever process asks."""
        return hashlib.sha256("\0".join(map(str, astuple(self))).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one run: the median, the interval that it lies in (see `median_interval`), every counted run."""

    median: float
    low: float
    high: float
    times: tuple[float, ...]

    @property
    def runs(self) -> int:
        """How many runs were counted."""
        return len(self.times)

    @property
    def quartiles(self) -> tuple[float, float]:
        """What a quarter of the runs took at most, and what a quarter took at least."""
        ordered, quarter = sorted(self.times), len(self.times) // 4
        return ordered[quarter], ordered[-1 - quarter]


@dataclass(frozen=True)
class NodeTime:
    """Milliseconds of one node, the lower quartile of all runs, under the name that the runtime has for it."""

    name: str
    op: str
    ms: float


@dataclass(frozen=True)
class Measured:
    """One model: whole runs, and its nodes in the order in which they ran, () when nobody asked for them.

    Nodes were timed in other runs, under a profile: their sum is about the median of whole runs, not equal to it.
    others: the share of the machine's processors that other work had meanwhile, 0 to 1. The threads of a run wait for
    each other, so a busy machine slows models down by factors, and not all by the same; no interval tells of that.
    """

    timing: Timing
    nodes: tuple[NodeTime, ...] = ()
    others: float = 0.0


@dataclass(frozen=True)
class Weight:
    """What a model takes of a process that holds nothing else: bytes when it has run, and at most meanwhile.

    provider: what runs it, in the runtime's own words. None: the system does not tell.
    """

    provider: str
    memory: int | None
    peak: int | None


def timing(times: Sequence[float]) -> Timing:
    """Return what the milliseconds of at least one run say."""
    return Timing(statistics.median(times), *median_interval(times), tuple(times))
