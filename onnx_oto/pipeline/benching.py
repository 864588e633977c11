"""`bench`: how long models take on the runtime that will serve them, where that time goes, and at other widths."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnx_oto.errors import CrashedError, LimitError, UnsupportedError, UsageError
from onnx_oto.pipeline.feeding import read_feeding
from onnx_oto.pipeline.gap import WORTH_TELLING, Gap, Steps, Work, gap
from onnx_oto.pipeline.latency.making import BUSY, feed_of, interpreter, make_table, threads_used
from onnx_oto.pipeline.latency.table import Table, require_writable, write_table
from onnx_oto.pipeline.opening import Opened, open_model
from onnx_oto.pipeline.options import BenchOptions
from onnx_oto.pipeline.pairing import require_same_inputs
from onnx_oto.pipeline.places import Output, files_read, require_apart
from onnx_oto.pipeline.summary import SCHEMA
from onnx_oto.runtime.bench import Bench, Host, Measured, NodeTime, Timing, Weight, probe_block
from onnx_oto.runtime.comparing import Feeding
from onnx_oto.runtime.comparing.inputs import sizes_of, slots
from onnx_oto.runtime.intervals import median_interval
from onnx_oto.runtime.timing import MARGIN
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.cost import count_macs, stated_sizes

Say = Callable[[str], None]
Feed = Mapping[str, npt.NDArray[Any]]
PathLike = str | os.PathLike[str]

MOST_RUNS = 2000
COARSEST = 16
"""Widths that are multiples of it are on the steps of every runtime: nobody needs to look for these then."""


@dataclass(frozen=True)
class Benched:
    """What was measured. nodes: as the runtime has them. sizes: of the inputs. others: share of other work.

    macs: of one run, at these sizes. weight: what it takes of memory, None where that was not to be had. compared: the
    models that were measured in turn with this one.
    """

    model: str
    host: Host
    threads: int
    timing: Timing
    nodes: tuple[NodeTime, ...]
    sizes: Mapping[str, tuple[int, ...]]
    others: float
    table: Table | None = None
    path: Path | None = None
    macs: int = 0
    weight: Weight | None = None
    compared: tuple[Compared, ...] = ()

    @property
    def batch(self) -> int | None:
        """The size of the first axis of what was fed."""
        return next((sizes[0] for sizes in self.sizes.values() if sizes), None)

    @property
    def by_op(self) -> dict[str, float]:
        """Milliseconds by operator, the largest first."""
        found: dict[str, float] = {}
        for node in self.nodes:
            found[node.op] = found.get(node.op, 0.0) + node.ms
        return dict(sorted(found.items(), key=lambda each: -each[1]))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should doubt."""
        if self.others <= BUSY:
            return ()
        return (
            f"other work had {self.others:.0%} of the processors meanwhile: measure again on a quiet machine",
        )

    def as_json(self) -> dict[str, Any]:
        """Return the result under its public names."""
        return {
            "schema": SCHEMA,
            **self._figures(),
            "host": {**vars(self.host), "fingerprint": self.host.fingerprint},
            "compared": [each.as_json() for each in self.compared],
            "other_work": round(self.others, 4),
            "warnings": list(self.warnings),
            "table": None if self.path is None else str(self.path),
        }

    def _figures(self) -> dict[str, Any]:
        weight = self.weight
        return {
            "model": self.model,
            "latency_ms": {
                "median": round(self.timing.median, 4),
                "interval": [round(self.timing.low, 4), round(self.timing.high, 4)],
                "quartiles": [round(each, 4) for each in self.timing.quartiles],
                "runs": self.timing.runs,
                "runtime": f"{self.host.runtime} {self.host.version}",
                "provider": None if weight is None else weight.provider,
                "threads": self.threads,
                "batch": self.batch,
                "inputs": {name: list(sizes) for name, sizes in self.sizes.items()},
            },
            "macs": self.macs,
            "memory_bytes": {
                "held": None if weight is None else weight.memory,
                "peak": None if weight is None else weight.peak,
            },
            "by_op": {op: round(ms, 5) for op, ms in self.by_op.items()},
            "operators": [{"name": node.name, "op": node.op, "ms": node.ms} for node in self.nodes],
        }


@dataclass(frozen=True)
class Compared:
    """A model beside the first one, in turn with it. ratio: 95 % interval of how many times as long it took."""

    benched: Benched
    ratio: tuple[float, float]
    gap: Gap

    @property
    def verdict(self) -> str:
        """Whether it is faster or slower, beyond the interval and by more than nobody notices."""
        speed_up = self.gap.speed_up
        if self.ratio[1] < 1 and speed_up > MARGIN:
            return f"{speed_up:.2f}x faster"
        if self.ratio[0] > 1 and speed_up < 1 / MARGIN:
            return f"{1 / speed_up:.2f}x slower"
        return "about the same" if 1 / 1.1 <= speed_up <= 1.1 else "within the noise"

    def as_json(self) -> dict[str, Any]:
        """Return it under its public names."""
        return {
            **self.benched._figures(),
            "speed_up": round(self.gap.speed_up, 4),
            "ratio_interval": [round(bound, 4) for bound in self.ratio],
            "macs_ratio": round(self.gap.macs, 4),
            "gap_ms": {"whole": round(self.gap.ms, 5), **{k: round(v, 5) for k, v in self.gap.parts.items()}},
            "why": list(self.gap.sentences()),
        }


def bench(
    paths: PathLike | Sequence[PathLike],
    options: BenchOptions | None = None,
    *,
    say: Say = lambda text: None,
) -> Benched:
    """Measure one model, or several in turn; write a table where `options` name one.

    The first is what the others are compared with. Raises RuntimeMissingError when there is no runtime,
    UnsupportedError when it does not take a model, DataError for models that read different inputs.
    """
    options = options or BenchOptions()
    first, *others = [paths] if isinstance(paths, str | os.PathLike) else paths
    if options.table is not None:
        if others:
            raise UsageError("a table is of one model: leave --table out, or the other models")
        require_apart(files_read(first, options), [Output(options.table)])
        require_writable(options.table)
    opened = [open_model(first, options), *map(open_model, others)]
    require_same_inputs([(each.path.name, each.model) for each in opened])
    feeding = _in_batches(opened[0], read_feeding(opened[0].model, options), options.batch)
    python = interpreter(options.python)
    with Bench(python, engine=options.engine, threads=options.threads) as clock:
        feed = feed_of(opened[0].analysis, feeding, clock)
        models = [each.model for each in opened]
        seconds = options.seconds * len(models)
        found = clock.measure(models, feed, seconds=seconds, nodes=True, most=MOST_RUNS)
        weights = [_weighed(clock, each, feed) for each in opened]
        threads = threads_used(options.threads, clock.host)
        results = [
            _benched(each, clock.host, threads, its, feed, weight)
            for each, its, weight in zip(opened, found, weights, strict=True)
        ]
        compared = tuple(_compared(results[0], each, opened, clock, say) for each in _rest(results, opened))
        made = None
        if options.table is not None:
            made = make_table(opened[0], clock, feeding, python, options.threads, say)
            write_table(made, options.table)
    path = None if options.table is None else Path(options.table)
    return replace(results[0], table=made, path=path, compared=compared)


def _rest(results: Sequence[Benched], opened: Sequence[Opened]) -> Iterator[tuple[Benched, Opened]]:
    yield from zip(results[1:], opened[1:], strict=True)


def _benched(
    opened: Opened, host: Host, threads: int, found: Measured, feed: Feed, weight: Weight | None
) -> Benched:
    sizes = {name: tuple(array.shape) for name, array in feed.items()}
    macs = _macs(opened.analysis, feed)
    return Benched(
        opened.path.name,
        host,
        threads,
        found.timing,
        found.nodes,
        sizes,
        found.others,
        macs=macs,
        weight=weight,
    )


def _macs(analysis: Analysis, feed: Feed) -> int:
    """Return the multiply-accumulates of a run on a feed."""
    stated = stated_sizes(analysis)
    fed = sizes_of(slots(analysis.model), feed)
    return count_macs(analysis, {name: fed.get(name, size) for name, size in stated.items()}).count


def _weighed(clock: Bench, opened: Opened, feed: Feed) -> Weight | None:
    """Return what a model takes of memory, None where it does not run alone as it did in turn."""
    try:
        return clock.weigh(opened.model, feed)
    except (UnsupportedError, LimitError, CrashedError):
        return None


def _compared(
    reference: Benched, other: tuple[Benched, Opened], opened: Sequence[Opened], clock: Bench, say: Say
) -> Compared:
    benched, model = other
    pairs = zip(reference.timing.times, benched.timing.times, strict=True)
    ratios = [theirs / own for own, theirs in pairs]
    ratio, speed_up = median_interval(ratios), 1 / statistics.median(ratios)
    widths = _own_widths(opened[0].analysis, model.analysis)
    before, after = _work(reference), replace(_work(benched), widths=widths)
    found = gap(before, after, speed_up)
    share = found.parts.get("multiplying", 0.0) / (sum(found.parts.values()) or 1.0)
    if found.macs > 1 and share >= WORTH_TELLING and any(width % COARSEST for width in widths):
        say(f"looking for the steps of {clock.host.runtime} {clock.host.version} (5 s)")
        stairs = probe_block(clock)
        found = gap(before, after, speed_up, Steps(stairs.alignment, stairs.block))
    return Compared(benched, ratio, found)


def _work(benched: Benched) -> Work:
    return Work(benched.timing.quartiles[0], benched.by_op, benched.macs)


def _own_widths(reference: Analysis, other: Analysis) -> tuple[int, ...]:
    """Return the widths of a model's convolutions, without those that the other model has in the same place too."""
    theirs, own = _widths(reference), _widths(other)
    if len(theirs) != len(own):
        return tuple(own)
    return tuple(width for before, width in zip(theirs, own, strict=True) if before != width)


def _widths(analysis: Analysis) -> list[int]:
    """Return the output channels of every convolution whose weight is stored."""
    found = []
    for node in analysis.graph.nodes:
        weight = analysis.graph.initializers.get(node.inputs[1]) if node.op == "Conv" else None
        if weight is not None:
            found.append(int(weight.dims[0]))
    return found


def _in_batches(opened: Opened, feeding: Feeding, batch: int | None) -> Feeding:
    """Return how a model is fed so many samples at once. Raises UsageError where it does not take them."""
    if batch is None:
        return feeding
    if feeding.examples:
        raise UsageError(
            "batch is for random inputs, and --inputs says what is fed: leave one of the two out"
        )
    at, shapes = stated_sizes(opened.analysis), dict(feeding.shapes)
    for slot in slots(opened.model):
        if not slot.dims:
            continue
        if isinstance(slot.dims[0], int) and slot.dims[0] != batch:
            raise UsageError(
                f"batch is {batch}, and '{opened.path.name}' reads {slot.dims[0]} samples in input {slot.name!r}, "
                "always: leave --batch out, or export the model with an open batch axis"
            )
        rest = shapes.get(slot.name, slot.dims)[1:]
        sizes = [size if isinstance(size, int) else at.get(str(size), 1) for size in rest]
        shapes[slot.name] = (batch, *sizes)
    return replace(feeding, shapes=shapes)
