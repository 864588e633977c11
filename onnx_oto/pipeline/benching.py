"""`bench`: how long a model takes on the runtime that will serve it, where that time goes, and at other widths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_oto.pipeline.feeding import read_feeding
from onnx_oto.pipeline.latency.making import BUSY, feed_of, interpreter, make_table, threads_used
from onnx_oto.pipeline.latency.table import Table, require_writable, write_table
from onnx_oto.pipeline.opening import open_model
from onnx_oto.pipeline.options import BenchOptions
from onnx_oto.pipeline.places import Output, files_read, require_apart
from onnx_oto.pipeline.summary import SCHEMA
from onnx_oto.runtime.bench import Bench, Host, NodeTime, Timing

Say = Callable[[str], None]


@dataclass(frozen=True)
class Benched:
    """What was measured. nodes: as the runtime has them. sizes: of the inputs. others: share of other work."""

    model: str
    host: Host
    threads: int
    timing: Timing
    nodes: tuple[NodeTime, ...]
    sizes: Mapping[str, tuple[int, ...]]
    others: float
    table: Table | None = None
    path: Path | None = None

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
            "model": self.model,
            "latency_ms": {
                "median": round(self.timing.median, 4),
                "interval": [round(self.timing.low, 4), round(self.timing.high, 4)],
                "runs": self.timing.runs,
                "runtime": f"{self.host.runtime} {self.host.version}",
                "threads": self.threads,
                "batch": self.batch,
                "inputs": {name: list(sizes) for name, sizes in self.sizes.items()},
            },
            "host": {**vars(self.host), "fingerprint": self.host.fingerprint},
            "operators": [{"name": node.name, "op": node.op, "ms": node.ms} for node in self.nodes],
            "other_work": round(self.others, 4),
            "warnings": list(self.warnings),
            "table": None if self.path is None else str(self.path),
        }


def bench(
    path: str | os.PathLike[str], options: BenchOptions | None = None, *, say: Say = lambda text: None
) -> Benched:
    """Measure the model at `path`, and write a table of it where `options` name one.

    Raises RuntimeMissingError when there is no runtime, UnsupportedError when it does not take the model.
    """
    options = options or BenchOptions()
    if options.table is not None:
        require_apart(files_read(path, options), [Output(options.table)])
        require_writable(options.table)
    opened = open_model(path, options)
    feeding = read_feeding(opened.model, options)
    python = interpreter(options.python)
    with Bench(python, engine=options.engine, threads=options.threads) as clock:
        feed = feed_of(opened.analysis, feeding, clock)
        (found,) = clock.measure([opened.model], feed, seconds=options.seconds, nodes=True, most=2000)
        made = None
        if options.table is not None:
            made = make_table(opened, clock, feeding, python, options.threads, say)
            write_table(made, options.table)
        host = clock.host
    return Benched(
        opened.path.name,
        host,
        threads_used(options.threads, host),
        found.timing,
        found.nodes,
        {name: tuple(array.shape) for name, array in feed.items()},
        found.others,
        made,
        None if options.table is None else Path(options.table),
    )
