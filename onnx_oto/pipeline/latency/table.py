"""The table: what the nodes of one model cost on one runtime, as numbers that times are made of; its file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from onnx_oto.errors import StorageError, UsageError, one_line
from onnx_oto.lanes.layout import FloatArray
from onnx_oto.model.files.saving import storing
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.skeleton import skeleton
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.pipeline.latency.attributing import Event, attributed
from onnx_oto.pipeline.latency.probing import SHARES, Probe
from onnx_oto.runtime.bench import Host, NodeTime, Staircase
from onnx_oto.zigs import Analysis
from onnx_oto.zigs.cost import count_macs, symbol_sizes
from onnx_oto.zigs.terms import Terms
from onnx_oto.zigs.work import KINDS, Rates, fitted, merged, work_of

SCHEMA = 1
KIND = "onnx-oto latency table"
REGULAR = 1 + len(SHARES)
"""How many probes lose the same share of every dimension: the full model and those that follow."""
_SHORTEST, _LARGEST = 1e-9, 1e15
"""What a measure in a file can be, in milliseconds."""
NEAR = 0.15
"""How far the sum of all nodes may be from the time of the whole model before the table says so."""


@dataclass(frozen=True)
class Row:
    """An event of the runtime. nodes: of the model, that it has run, () for all that no name leads to.

    ms: what was measured, by probe. rates: what its time is made of, see `zigs.work`.
    """

    name: str
    op: str
    nodes: tuple[str, ...]
    ms: tuple[float, ...]
    rates: Rates


@dataclass(frozen=True)
class Table:
    """What a model costs on a runtime.

    model: a digest of its graph without weights. python: the interpreter that measured. sizes: of the inputs. By probe:
    kept, the share of the MACs; times, milliseconds of the whole; sums, of all its nodes; aligned, whether widths are
    what kernels like; predicted. conversions: what the runtime puts between nodes, such as changes of layout. rest:
    rates of all that is no row's. scale, overhead: whole = scale * sum of nodes + overhead.
    """

    model: str
    host: Host
    python: str
    threads: int
    sizes: Mapping[str, tuple[int, ...]]
    staircase: Staircase
    kept: tuple[float, ...]
    times: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    sums: tuple[float, ...]
    aligned: tuple[bool, ...]
    others: float
    rows: tuple[Row, ...]
    conversions: tuple[NodeTime, ...]
    rest: Rates
    scale: float
    overhead: float
    predicted: tuple[float, ...]

    @property
    def measured_ms(self) -> float:
        """Of the full model."""
        return self.times[0]

    @property
    def sum_ms(self) -> float:
        """Of all its nodes."""
        return self.sums[0]

    @property
    def is_whole(self) -> bool:
        """Whether the sum of all nodes is what the model takes, to 15 %."""
        return abs(self.sum_ms - self.measured_ms) <= NEAR * self.measured_ms

    @property
    def error(self) -> float:
        """The largest relative error of a prediction for a probe with widths that kernels like."""
        errors = (
            abs(p / t - 1) for p, t, ok in zip(self.predicted, self.times, self.aligned, strict=True) if ok
        )
        return max(errors, default=0.0)

    @property
    def cliff(self) -> float:
        """How many times as long as predicted a model takes whose widths lie just below what kernels like."""
        found = [t / p for p, t, ok in zip(self.predicted, self.times, self.aligned, strict=True) if not ok]
        return max(found, default=1.0)

    def terms(self, analysis: Analysis) -> tuple[Terms, float]:
        """Return milliseconds by the lanes that stay, and those that no lane changes."""
        sizes = symbol_sizes(analysis, count_macs(analysis).at)
        named = {node.name: node for node in analysis.graph.nodes}
        parts: list[tuple[float, Terms]] = []
        for row in self.rows:
            work = work_of(analysis, [named[name] for name in row.nodes], sizes, self.staircase.block)
            parts += [(self.scale * rate, terms) for rate, terms in row.rates.cost(work)]
        work = work_of(analysis, _others(analysis, self.rows), sizes, self.staircase.block)
        parts += [(self.scale * rate, terms) for rate, terms in self.rest.cost(work)]
        return merged(parts), self.overhead

    @property
    def curve(self) -> tuple[tuple[float, float], ...]:
        """Points (predicted, measured) of the probes in which the same share of every dimension went, ascending."""
        points = sorted(zip(self.predicted[:REGULAR], self.times[:REGULAR], strict=True))
        found: list[tuple[float, float]] = []
        for predicted, ms in points:
            if not found or predicted > found[-1][0]:
                found.append((predicted, max(ms, found[-1][1] * (1 + 1e-9) if found else ms)))
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """Return the table as JSON values."""
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "model": self.model,
            "host": {**asdict(self.host), "fingerprint": self.host.fingerprint},
            "python": self.python,
            "threads": self.threads,
            "batch": next((sizes[0] for sizes in self.sizes.values() if sizes), None),
            "inputs": {name: list(sizes) for name, sizes in self.sizes.items()},
            "staircase": {
                "alignment": self.staircase.alignment,
                "block": self.staircase.block,
                "ms": {str(channels): ms for channels, ms in self.staircase.times.items()},
            },
            "measured_ms": self.measured_ms,
            "sum_ms": self.sum_ms,
            "sum_is_within_15_percent": self.is_whole,
            "prediction_error": self.error,
            "just_below_costs": self.cliff,
            "other_work": self.others,
            "probes": [
                {
                    "macs": macs,
                    "aligned": ok,
                    "ms": ms,
                    "interval": list(span),
                    "sum_ms": total,
                    "predicted_ms": guess,
                }
                for macs, ok, ms, span, total, guess in zip(
                    self.kept,
                    self.aligned,
                    self.times,
                    self.intervals,
                    self.sums,
                    self.predicted,
                    strict=True,
                )
            ],
            "operators": [
                {
                    "name": r.name,
                    "op": r.op,
                    "nodes": list(r.nodes),
                    "ms": list(r.ms),
                    "rates": asdict(r.rates),
                }
                for r in self.rows
            ],
            "conversions": [asdict(each) for each in self.conversions],
            "rest": asdict(self.rest),
            "scale": self.scale,
            "overhead_ms": self.overhead,
        }


def digest(model: onnx.ModelProto) -> str:
    """Return what tells the graph of a model in normal form from another one, whatever its weights are."""
    bare = skeleton(model).graph
    told = onnx.ModelProto(opset_import=model.opset_import)
    told.graph.node.extend(bare.node)
    told.graph.input.extend(model.graph.input)
    told.graph.output.extend(model.graph.output)
    for tensor in bare.initializer:
        if tensor.data_type not in FLOATS:
            told.graph.initializer.add().CopyFrom(tensor)
    weights = sorted((t.name, t.data_type, tuple(t.dims)) for t in model.graph.initializer)
    content = told.SerializeToString(deterministic=True) + repr(weights).encode()
    return hashlib.sha256(content).hexdigest()


def table(
    analysis: Analysis,
    found: Sequence[Probe],
    host: Host,
    staircase: Staircase,
    *,
    python: str,
    threads: int,
    sizes: Mapping[str, tuple[int, ...]],
) -> Table:
    """Return the table that probes make, the full model first."""
    macs = count_macs(analysis)
    at = symbol_sizes(analysis, macs.at)
    keep = [~probe.drop for probe in found]
    ok = np.array([probe.aligned for probe in found])
    common = [
        event for event in found[0].nodes if all(event in probe.nodes for probe in found if probe.aligned)
    ]
    run = attributed(analysis.graph, list(found[0].nodes))
    rows: list[Row] = []
    sums = np.array([sum(probe.nodes.values()) for probe in found])
    own = [without_profiling(probe.nodes, probe.ms) for probe in found]
    left = np.array([sum(nodes.values()) for nodes in own])
    guess = np.zeros(len(found))
    for event in common:
        if event in run:
            times = np.array([nodes.get(event, 0.0) for nodes in own])
            amounts = _amounts(analysis, run[event], at, staircase.block, keep)
            rates = fitted(amounts[ok], times[ok])
            rows.append(Row(event[0], event[1], _names(run[event]), tuple(times.tolist()), _rates(rates)))
            left -= times
            guess += amounts @ rates
    amounts = _amounts(analysis, _others(analysis, rows), at, staircase.block, keep)
    rest = fitted(amounts[ok], np.maximum(left, 0.0)[ok])
    guess += amounts @ rest
    times = np.array([probe.ms for probe in found])
    scale, overhead = fitted(np.stack([guess, np.ones(len(found))], 1)[ok], times[ok]).tolist()
    work = [float(_macs(analysis, at, k)) for k in keep]
    return Table(
        digest(analysis.model),
        host,
        python,
        threads,
        dict(sizes),
        staircase,
        tuple(each / max(work[0], 1.0) for each in work),
        tuple(times.tolist()),
        tuple((probe.low, probe.high) for probe in found),
        tuple(sums.tolist()),
        tuple(probe.aligned for probe in found),
        max(probe.others for probe in found),
        tuple(rows),
        tuple(NodeTime(event[0], event[1], ms) for event, ms in found[0].nodes.items() if event not in run),
        _rates(rest),
        scale,
        overhead,
        tuple((scale * guess + overhead).tolist()),
    )


def without_profiling(nodes: Mapping[Event, float], whole: float) -> dict[Event, float]:
    """Return the times of nodes without what profiling adds to each, where together they take more than the whole.

    The same is taken from every node, but no more than it has: some 5 us for ONNX Runtime.
    """
    times = np.array(list(nodes.values()))
    excess = float(times.sum()) - whole
    if excess > 0:
        low, high = 0.0, float(times.max())
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if np.minimum(times, middle).sum() < excess else (low, middle)
        times = times - np.minimum(times, high)
    return dict(zip(nodes, times.tolist(), strict=True))


def _macs(analysis: Analysis, at: Mapping[str, int], keep: Any) -> float:
    from onnx_oto.zigs.terms import mac_terms

    return mac_terms(analysis, at).at(keep)


def _others(analysis: Analysis, rows: Sequence[Row]) -> list[Node]:
    """Return the nodes that are no row's."""
    taken = {name for row in rows for name in row.nodes}
    return [node for node in analysis.graph.nodes if node.name not in taken]


def _names(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(node.name for node in nodes)


def _rates(found: FloatArray) -> Rates:
    return Rates(**dict(zip(KINDS, found.tolist(), strict=True)))


def _amounts(
    analysis: Analysis, nodes: Sequence[Node], at: Mapping[str, int], block: int, keep: Sequence[Any]
) -> FloatArray:
    """Return how much of each kind of work nodes take where these lanes stay: float64 [probes, kinds]."""
    parts = work_of(analysis, nodes, at, block)
    return np.array([[parts[kind].at(lanes) for kind in KINDS] for lanes in keep], np.float64)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise StorageError where no table can be written, before any is measured; nothing is left there."""
    with storing(path):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=Path(path).parent):
            pass


def write_table(made: Table, path: str | os.PathLike[str]) -> None:
    """Write a table as JSON. Raises StorageError."""
    from onnx_oto.pipeline.folder import write_json

    write_json(Path(path), made.as_json())


def read_table(path: str | os.PathLike[str]) -> Table:
    """Return the table in a file. Raises StorageError, and UsageError for a file that is none."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise StorageError(f"cannot read the table '{path}': {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # of UTF-8, of JSON, of numbers without end
        raise UsageError(
            f"'{path}' is no latency table: {error}; make one with `onnx-oto bench MODEL --table`"
        ) from None
    if not isinstance(found, dict) or found.get("kind") != KIND or found.get("schema") != SCHEMA:
        raise UsageError(
            f"'{path}' is no latency table of this version: make one with `onnx-oto bench MODEL --table {path}`"
        )
    try:
        return _read(found)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(
            f"'{path}' is a damaged latency table ({type(error).__name__}: {one_line(error)}): make one with `onnx-oto "
            f"bench MODEL --table {path}`"
        ) from None


def _read(found: Mapping[str, Any]) -> Table:
    """Return the table in JSON values. Raises one of the errors that Python has for values that are none."""
    host, stairs, probes = found["host"], found["staircase"], found["probes"]
    if not probes:
        raise ValueError("no probes")
    block, alignment = _count(stairs["block"]), _count(stairs["alignment"])
    return Table(
        _text(found["model"]),
        Host(
            cores=_count(host["cores"]),
            **{name: _text(value) for name, value in host.items() if name not in ("cores", "fingerprint")},
        ),
        _text(found["python"]),
        _count(found["threads"], least=0),
        {name: tuple(_count(size, least=0) for size in sizes) for name, sizes in found["inputs"].items()},
        Staircase(alignment, block, {int(c): _number(ms) for c, ms in stairs["ms"].items()}),
        tuple(_number(p["macs"]) for p in probes),
        tuple(_number(p["ms"], least=_SHORTEST) for p in probes),
        tuple((_number(p["interval"][0]), _number(p["interval"][1])) for p in probes),
        tuple(_number(p["sum_ms"]) for p in probes),
        tuple(bool(p["aligned"]) for p in probes),
        _number(found["other_work"]),
        tuple(
            Row(
                _text(r["name"]),
                _text(r["op"]),
                tuple(_text(name) for name in r["nodes"]),
                tuple(_number(ms) for ms in r["ms"]),
                _rates_in(r["rates"]),
            )
            for r in found["operators"]
        ),
        tuple(
            NodeTime(_text(each["name"]), _text(each["op"]), _number(each["ms"]))
            for each in found["conversions"]
        ),
        _rates_in(found["rest"]),
        _number(found["scale"]),
        _number(found["overhead_ms"]),
        tuple(_number(p["predicted_ms"]) for p in probes),
    )


def _rates_in(found: Mapping[str, Any]) -> Rates:
    return Rates(**{name: _number(value) for name, value in found.items()})


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: object, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    if not least <= value <= _LARGEST:
        raise ValueError(f"{value!r} is no measure")
    return float(value)


def _count(value: object, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is no count")
    if not least <= value < 2**31:
        raise ValueError(f"{value!r} is no count")
    return value
