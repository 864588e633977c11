"""A report: what is said, whatever it is written as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx_oto.reporting.layers import Bar, Figure, Layer
from onnx_oto.reporting.picture import Picture
from onnx_oto.reporting.plotting import Chart

SCHEMA = 1
ABOUT_THE_SAME, NOT_TOLD_APART = "about the same", "within the noise"
"""What is said of two latencies where neither is smaller beyond the interval: medians alike, and medians apart."""
ALIKE = 1.1
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Metric:
    """A metric on test data: of the model as it was brought, the full and the compact one."""

    name: str
    original: float | None
    full: float | None
    compact: float | None


@dataclass(frozen=True)
class Asked:
    """What a run was asked for: as it was typed, the most that it may be, and what the compact model is.

    A share of groups that go is met where as many went.
    """

    what: str
    asked: str
    most: float
    reached: float

    @property
    def is_kept(self) -> bool:
        """Whether it was met, but for what a number loses when it is written."""
        return self.reached <= self.most * (1 + 1e-9)


@dataclass(frozen=True)
class Latency:
    """Medians of both models in milliseconds, each between two bounds, and what they were measured in.

    why: why there are none.
    """

    full: float | None = None
    compact: float | None = None
    full_interval: tuple[float, float] | None = None
    compact_interval: tuple[float, float] | None = None
    ratio_interval: tuple[float, float] | None = None
    runs: int | None = None
    runtime: str = ""
    threads: int | None = None
    batch: int | None = None
    at: Json = field(default_factory=dict)
    why: str = ""

    @property
    def times(self) -> float | None:
        """How many times as fast the compact model is."""
        return self.full / self.compact if self.full and self.compact else None

    @property
    def said(self) -> str:
        """Whether that is faster, in words: nothing is said that noise may have made."""
        if self.times is None:
            return ""
        low, high = self.ratio_interval or (0.0, 2.0)
        if high < 1:
            return f"{self.times:.2f}× faster"
        if low > 1:
            return f"{1 / self.times:.2f}× slower"
        return ABOUT_THE_SAME if max(self.times, 1 / self.times) <= ALIKE else NOT_TOLD_APART


@dataclass(frozen=True)
class Report:
    """What is said of a run, or of two models. kind: "run", "half" (of a run) or "models".

    state: what a reader should know first, in sentences. way_on: commands that go on with half a run. notes: what is
    missing, and why. lanes: groups that could go, and that are left. macs_at: open sizes that MACs are counted at.
    int8: what a result says of the int8 model, None where none was asked for. verification: as `verify` says it, None
    where nothing was compared. repeat: lines to type, to do the same again.
    """

    kind: str
    title: str
    state: tuple[str, ...]
    params: Figure
    macs: Figure
    bytes: Figure
    macs_at: Json = field(default_factory=dict)
    lanes: Figure = Figure(None, None)  # noqa: RUF009 - a value
    metrics: tuple[Metric, ...] = ()
    latency: Latency | None = None
    int8: Json | None = None
    verification: Json | None = None
    asked: tuple[Asked, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    way_on: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    epochs: tuple[Json, ...] = ()
    bars: tuple[Bar, ...] = ()
    layers: tuple[Layer, ...] = ()
    picture: Picture | None = None
    colours: Mapping[str, str] = field(default_factory=dict)
    settings: Json = field(default_factory=dict)
    provenance: Json = field(default_factory=dict)
    digests: Json = field(default_factory=dict)
    seconds: float | None = None
    when: str = ""
    repeat: tuple[str, ...] = ()
    recorded: str = ""
    version: str = ""

    @property
    def whole_macs(self) -> int:
        """Multiply-accumulates of all layers of the full model, at least 1."""
        return max(sum(layer.macs.before or 0 for layer in self.layers), 1)

    @property
    def whole_ms(self) -> float | None:
        """Milliseconds of all layers that were timed, None where none was."""
        return sum(layer.ms or 0.0 for layer in self.layers) or None

    def as_json(self) -> dict[str, Any]:
        """Return the report under its public names."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "model": self.title,
            "state": list(self.state),
            "way_on": list(self.way_on),
            "params": _figure(self.params),
            "macs": {**_figure(self.macs), "at": dict(self.macs_at)},
            "bytes": _figure(self.bytes),
            "lanes": _figure(self.lanes),
            "metrics": [vars(metric) for metric in self.metrics],
            "latency_ms": None if self.latency is None else _latency(self.latency),
            "int8": None if self.int8 is None else dict(self.int8),
            "verify": self.verification,
            "asked": [{**vars(each), "kept": each.is_kept} for each in self.asked],
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "epochs": [dict(each) for each in self.epochs],
            "dimensions": [
                {"name": bar.name, **_figure(bar.lanes), "frozen": bar.frozen, "layers": list(bar.layers)}
                for bar in self.bars
            ],
            "layers": [self._layer(layer) for layer in self.layers],
            "graph": None if self.picture is None else _graph(self.picture),
            "settings": dict(self.settings),
            "provenance": dict(self.provenance),
            "digests": dict(self.digests),
            "seconds": self.seconds,
            "finished": self.when or None,
            "repeat": list(self.repeat),
            "onnx_oto": self.version,
        }

    def _layer(self, layer: Layer) -> dict[str, Any]:
        whole = self.whole_ms
        return {
            "name": layer.name,
            "op": layer.op,
            "channels": _figure(layer.channels),
            "params": _figure(layer.params),
            "macs": _figure(layer.macs),
            "share_of_macs": round((layer.macs.before or 0) / self.whole_macs, 6),
            "ms": layer.ms,
            "share_of_time": None if layer.ms is None or whole is None else round(layer.ms / whole, 6),
            "dimension": layer.dimension,
            "frozen": list(layer.frozen),
        }


def _figure(figure: Figure) -> dict[str, int | None]:
    return {"before": figure.before, "after": figure.after}


def _latency(latency: Latency) -> dict[str, Any]:
    if latency.why:
        return {"full": None, "compact": None, "not_measured": latency.why}
    found = {name: value for name, value in vars(latency).items() if name != "why"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _graph(picture: Picture) -> dict[str, Any]:
    feeds: dict[int, list[int]] = {}
    for a, b in picture.edges:
        feeds.setdefault(b, []).append(a)
    return {
        "nodes": picture.nodes,
        "drawn": picture.placed is not None,
        "why_not": picture.why or None,
        "boxes": [
            {
                "op": tile.title,
                "with": tile.small,
                "channels": tile.widths,
                "times": tile.times,
                "dimension": tile.dimension,
                "frozen": list(tile.frozen),
                "nodes": list(tile.names),
                "reads": feeds.get(number, []),
            }
            for number, tile in enumerate(picture.tiles)
        ],
    }


def latency_of(found: Any) -> Latency | None:
    """Return what `latency_ms` of a result says; None for what is none."""
    if not isinstance(found, Mapping):
        return None
    if found.get("not_measured"):
        return Latency(why=str(found["not_measured"]))

    def pair(name: str) -> tuple[float, float] | None:
        value = found.get(name)
        is_pair = isinstance(value, Sequence) and len(value) == 2
        return (float(value[0]), float(value[1])) if is_pair and value is not None else None

    return Latency(
        found.get("full"),
        found.get("compact"),
        pair("full_interval"),
        pair("compact_interval"),
        pair("ratio_interval"),
        found.get("runs"),
        str(found.get("runtime") or ""),
        found.get("threads"),
        found.get("batch"),
        found.get("at") or {},
    )


def metrics_of(result: Json) -> tuple[Metric, ...]:
    """Return the metrics of a result, the first one that was asked for first."""
    rows = [result.get("metric"), *(result.get("metrics") or ())]
    return tuple(
        Metric(str(row.get("name")), row.get("original"), row.get("full"), row.get("compact"))
        for row in rows
        if isinstance(row, Mapping)
    )


def asked_of(result: Json) -> tuple[Asked, ...]:
    """Return the budgets of a result."""
    found = result.get("budgets")
    return tuple(
        Asked(str(name), str(each.get("asked")), float(each["most"]), float(each["compact"]))
        for name, each in (found.items() if isinstance(found, Mapping) else ())
        if isinstance(each, Mapping) and each.get("most") is not None and each.get("compact") is not None
    )


def figure_of(result: Json, name: str) -> Figure:
    """Return a figure of a result, unknown where that does not hold it."""
    found = result.get(name)
    return (
        Figure(found.get("before"), found.get("after")) if isinstance(found, Mapping) else Figure(None, None)
    )
