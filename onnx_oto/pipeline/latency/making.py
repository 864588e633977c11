"""Making tables, and budgets of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import onnx

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.pipeline.latency.probing import PASSES, measured
from onnx_oto.pipeline.latency.table import Table, digest, read_table, require_writable, table, write_table
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import BudgetOptions
from onnx_oto.runtime.bench import Bench, Host, probe_block
from onnx_oto.runtime.comparing import Feeding, feeds_at
from onnx_oto.runtime.timing import Latencies, compared, default_threads
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.budgets import Amount, Budget, budget
from onnx_oto.zigs.cost import count_macs
from onnx_oto.zigs.widths import Rounding

Feed = Mapping[str, npt.NDArray[Any]]
Say = Callable[[str], None]
SECONDS, LEAST = 3.0, 11
"""Of measuring full against compact model."""
BUSY = 0.15
"""The share of the processors that other work may have before what is measured is doubted."""


def feed_of(analysis: Analysis, feeding: Feeding, bench: Bench) -> Feed:
    """Return what a model is measured on: inputs of the user, or random ones at the sizes MACs are counted at.

    Raises UnsupportedError when the runtime takes none of them.
    """
    trouble: UnsupportedError | None = None
    for feed in feeds_at(analysis.model, analysis.graph, count_macs(analysis).at, feeding):
        try:
            bench.measure([analysis.model], feed, seconds=0.0, least=1, most=1)
        except UnsupportedError as error:
            trouble = error
        else:
            return feed
    raise trouble or UnsupportedError(
        "the model cannot be measured: no inputs were found that it takes; give some with --inputs, or "
        "sizes with --input-shape"
    )


def make_table(opened: Opened, bench: Bench, feeding: Feeding, python: str, threads: int, say: Say) -> Table:
    """Return a table of the model, measured now: a minute or so."""
    host = bench.host
    say(f"measuring channel blocks of {host.runtime} {host.version}")
    stairs = probe_block(bench)
    rounding = Rounding(max(stairs.block, 1), stairs.alignment)
    feed = feed_of(opened.analysis, feeding, bench)
    found = measured(opened.analysis, bench, feed, rounding, say)
    made = table(
        opened.analysis,
        found,
        host,
        stairs,
        python=python,
        threads=threads,
        sizes={name: tuple(array.shape) for name, array in feed.items()},
    )
    if made.others > BUSY:
        say(
            f"warning: other work had up to {made.others:.0%} of the processors: the table may be off, measure again"
        )
    if not made.is_whole:
        say(
            f"warning: the nodes take {made.sum_ms:.3g} ms together, the whole model {made.measured_ms:.3g} ms: more "
            "than 15 % apart"
        )
    return made


def threads_used(asked: int, host: Host) -> int:
    """Return how many threads a run has where so many were asked for; 0 = the default of the runtime."""
    return asked or min(default_threads(), host.cores)


def fitting_table(opened: Opened, path: str | os.PathLike[str]) -> Table:
    """Return a table that was made of this model. Raises StorageError, and UsageError for another one."""
    known = read_table(path)
    if known.model != digest(opened.model):
        raise UsageError(
            f"'{path}' is a table of another model than '{opened.path.name}': make one with `onnx-oto bench "
            f"{opened.path.name} --table`"
        )
    nodes = {node.name for node in opened.analysis.graph.nodes}
    if strange := [name for row in known.rows for name in row.nodes if name not in nodes]:
        raise UsageError(
            f"'{path}' is a damaged latency table: '{opened.path.name}' has no node '{strange[0]}'; make one with "
            f"`onnx-oto bench {opened.path.name} --table {path}`"
        )
    return known


def interpreter(python: str | os.PathLike[str] | None) -> str:
    """Return the interpreter that measures."""
    return os.fspath(python) if python is not None else sys.executable


@dataclass(frozen=True, eq=False)
class Clock:
    """What measures the models of a verb on the runtime that will serve them. table: where latency is a budget.

    is_made: whether the table was made for this verb alone, so that measuring may go on.
    """

    bench: Bench
    feed: Feed
    threads: int
    table: Table | None = None
    is_made: bool = False

    def latencies(self, full: onnx.ModelProto, compact: onnx.ModelProto) -> Latencies:
        """Return the latency of a model and of its compact form, in turn."""
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(PASSES):
            self.bench.close()  # another process has another mood, see `probing.measured`
            found = self.bench.measure([full, compact], self.feed, seconds=SECONDS / PASSES, least=LEAST)
            for own, each in zip(times, found, strict=True):
                own.extend(each.timing.times)
        host = self.bench.host
        return compared(
            full,
            self.feed,
            *times,
            f"{host.runtime} {host.version}",
            threads_used(self.threads, host),
        )


@contextmanager
def clock_for(opened: Opened, options: BudgetOptions, feeding: Feeding, say: Say) -> Iterator[Clock | None]:
    """Give what measures for a verb; None where the runtime of this process does, as nobody asked for another.

    Raises UsageError for a table of another model, another runtime or another number of threads, StorageError for one
    that could not be written.
    """
    if options.latency is None and options.python is None and not options.threads:
        yield None
        return
    path = options.table if options.latency is not None else None
    known = None if path is None or not os.path.lexists(path) else fitting_table(opened, path)
    if known is None:
        if path is not None:
            require_writable(path)
        where = interpreter(options.python)
        with Bench(where, threads=options.threads) as bench:
            made = None
            if options.latency is not None:
                made = make_table(opened, bench, feeding, where, options.threads, say)
                if path is not None:
                    write_table(made, path)
                    say(f"latency table: {path}")
            yield Clock(bench, feed_of(opened.analysis, feeding, bench), options.threads, made, path is None)
        return
    threads = threads_used(known.threads, known.host)
    if options.threads not in (0, threads):
        raise UsageError(
            f"'{path}' was measured with {threads} threads, not with --threads {options.threads}: leave --threads out, "
            "or give another table"
        )
    where = interpreter(options.python)  # never the one that a file names: that may be any program
    with Bench(where, engine=known.host.engine, threads=known.threads) as bench:
        if bench.host.fingerprint != known.host.fingerprint:
            raise UsageError(
                f"'{path}' is a table of another runtime: it was measured in {_told(known.host)}, and '{where}' has "
                f"{_told(bench.host)}; say which one serves (--python {known.python}), or make another table with "
                "`onnx-oto bench`"
            )
        yield Clock(bench, feed_of(opened.analysis, feeding, bench), known.threads, known)


@contextmanager
def clock_at_the_end(
    analysis: Analysis, options: BudgetOptions, feeding: Feeding, known: Table | None
) -> Iterator[Clock | None]:
    """Give what measures a model that was trained, as `clock_for` did before: by the table's interpreter, if any."""
    if known is None and options.python is None and not options.threads:
        yield None
        return
    where = interpreter(options.python)
    engine, threads = ("auto", options.threads) if known is None else (known.host.engine, known.threads)
    with Bench(where, engine=engine, threads=threads) as bench:
        yield Clock(bench, feed_of(analysis, feeding, bench), threads, known)


def _told(host: Host) -> str:
    return f"{host.runtime} {host.version} on {host.processor}, {host.cores} cores"


def latency_budget(opened: Opened, asked: Amount, known: Table) -> Budget:
    """Return the budget in milliseconds of a table."""
    terms, rest = known.terms(opened.analysis)
    made = budget("latency", asked, known.measured_ms, terms, rest)
    return made.with_curve(known.curve)
