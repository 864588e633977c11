"""A report written out: as a page, as Markdown, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx_oto.reporting.document import ABOUT_THE_SAME, NOT_TOLD_APART, Json, Report
from onnx_oto.reporting.drawing import svg
from onnx_oto.reporting.plotting import looked_up
from onnx_oto.reporting.rendering import count, milliseconds, percent, render, size
from onnx_oto.text import lasting

MOST_BYTES = 1_500_000
"""What a page takes at most: it is sent by mail, and opened on phones."""
ROWS = (1000, 300, 100, 25)
"""Rows of tables, fewer where a page gets too large."""
MOST_EPOCHS = 200


def written(report: Report, kind: str) -> str:
    """Return a report as `kind`: html, md or json."""
    if kind == "json":
        return json.dumps(plain(report.as_json()), indent=1) + "\n"
    page = ""
    for rows in ROWS:
        page = _filled(report, kind, rows)
        if len(page.encode()) <= MOST_BYTES:
            break
    return page


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: no numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _filled(report: Report, kind: str, rows: int) -> str:
    drawing = None
    if kind == "html" and report.picture is not None and report.picture.placed is not None:
        drawing = svg(report.picture, f"The graph of {report.title}", alone=False)
    whole = report.whole_macs
    per_epoch = next((each["step"] / each["epoch"] for each in report.epochs if each.get("epoch")), None)
    return render(
        f"report.{kind}",
        report=report,
        headline=headline(report),
        at=f"at {sizes(report.macs_at)}" if report.macs_at else "",
        sizes=sizes,
        int8=int8_said(report.int8),
        across="epochs" if per_epoch else "steps",
        phases_said=_phases(report),
        epochs=_thinned(report.epochs, MOST_EPOCHS),
        bars=report.bars[:rows],
        layers=_largest(report, rows),
        top=max((layer.macs.before or 0) / whole for layer in report.layers) or 1.0 if report.layers else 1.0,
        graph=drawing,
        reads=[] if report.picture is None else report.picture.reads(),
        given=[
            (key, _told(value)) for key, value in report.settings.items() if value not in (None, [], {}, "")
        ],
        environment=_environment(report),
        digests=_digests(report),
        looked_up=plain(
            {"per_epoch": per_epoch, "charts": {chart.key: looked_up(chart) for chart in report.charts}}
        ),
    )


def _thinned(rows: Sequence[Json], most: int) -> list[Json]:
    """Return at most so many rows, evenly, the last one among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[(number + 1) * len(rows) // most - 1] for number in range(most)]


def _largest(report: Report, most: int) -> Sequence[Any]:
    """Return the layers in their order; those with most multiply-accumulates where there are too many."""
    if len(report.layers) <= most:
        return report.layers
    order = sorted(
        report.layers, key=lambda each: (each.macs.before or 0, each.params.before or 0), reverse=True
    )
    taken = {id(each) for each in order[:most]}
    return [each for each in report.layers if id(each) in taken]


def headline(report: Report) -> str:
    """Return what was gained in one sentence."""
    if report.kind == "half":
        return "Half a run: " + (
            f"{count(report.params.before)} parameters, none of them cut out yet."
            if report.params.before is not None
            else "nothing is cut out yet."
        )
    kept = [
        f"{percent(figure.kept)} of the {what}"
        for what, figure in (("parameters", report.params), ("multiply-accumulates", report.macs))
        if figure.kept is not None
    ]
    said = f"{' and '.join(kept)} {'are' if kept else ''} left".capitalize() if kept else "Two models"
    if report.latency is not None and report.latency.times:
        said += {
            ABOUT_THE_SAME: ", and it takes about the same time",
            NOT_TOLD_APART: ", and what that changes in time is within the noise",
        }.get(report.latency.said, f", and it is {report.latency.said}")
    if report.metrics and report.metrics[0].compact is not None:
        first = report.metrics[0]
        said += f"; test {first.name} {first.compact:.4g}"
        if first.full is not None and first.full != first.compact:
            said += f" ({first.full:.4g} in the full model)"
    verdict = report.verification
    if verdict is not None:
        said += ". The two compute the same" if verdict.get("passed") else ". Their outputs differ"
    return said + "."


def int8_said(int8: Json | None) -> str:
    """Return what is said of the int8 model of a run, nothing where none was asked for.

    >>> int8_said({"file": "compact.int8.onnx", "bytes": {"compact": 1000, "int8": 400}, "lost": 0.25, "allowed": 0.5})
    'compact.int8.onnx: 1.00 kB → 400 bytes (40.0%); lost 0.25, 0.5 are allowed.'
    """
    if not int8:
        return ""
    if int8.get("failed"):
        return f"none was written: {int8['failed']}"
    told = [
        f"{name}{form(before)} → {form(after)}{f' ({percent(after / before)})' if has_share and before else ''}"
        for name, form, has_share, (before, after) in (
            ("", size, True, _both(int8, "bytes")),
            ("latency ", milliseconds, True, _both(int8, "latency_ms")),
            (f"test {_named(int8)} ", "{:.4f}".format, False, _both(int8, "metric")),
        )
        if before is not None and after is not None
    ]
    if isinstance(agreement := int8.get("agreement"), int | float):
        told.append(f"they agree on {percent(agreement)} of the answers")
    if isinstance(lost := int8.get("lost"), int | float):
        told.append(f"lost {max(lost, 0.0):.2f}, {int8.get('allowed')} are allowed")
    return f"{int8.get('file', 'a model')}: {'; '.join(told)}."


def _both(int8: Json, name: str) -> tuple[float | None, float | None]:
    """Return a figure of the compact and of the int8 model, None for what is no number."""
    found = int8.get(name)
    values = [found.get(which) if isinstance(found, Mapping) else None for which in ("compact", "int8")]
    before, after = (value if isinstance(value, int | float) else None for value in values)
    return before, after


def _named(int8: Json) -> str:
    found = int8.get("metric")
    return str(found.get("name")) if isinstance(found, Mapping) else ""


def sizes(at: Mapping[str, Any]) -> str:
    """Return open sizes for people.

    >>> sizes({"N": 1, "T": 128}), sizes({})
    ('N=1, T=128', 'fixed sizes')
    """
    return ", ".join(f"{name}={size}" for name, size in at.items()) or "fixed sizes"


def _phases(report: Report) -> str:
    """Return the parts of the plan, in words behind a sentence."""
    if not report.charts or not report.charts[0].bands:
        return "."
    chart = report.charts[0]
    parts = [f"{band.name} to step {(band.at + band.width) * chart.end:,.0f}" for band in chart.bands]
    return f"; dotted lines part what it does ({', '.join(parts)})."


def _environment(report: Report) -> list[tuple[str, str]]:
    machine = report.provenance.get("machine") or {}
    found = {**(report.provenance.get("versions") or {}), **machine}
    if report.latency is not None and report.latency.threads is not None:
        found["threads of the latency"] = report.latency.threads
    seed = report.settings.get("seed")
    if seed is not None:
        found["seed"] = seed
    if report.seconds:
        found["time in all"] = lasting(report.seconds)
    return [(str(name), str(value)) for name, value in found.items()]


def _digests(report: Report) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for what in ("model", "data"):
        facts = report.provenance.get(what) or {}
        if digest := facts.get("sha256") or facts.get("times"):
            name = facts.get("name")
            how = "" if facts.get("sha256") else " (names, sizes and times of its files)"
            found.append((f"{what}{f', {name}' if name else ''}{how}", str(digest)))
        for split in ("train", "val", "test"):
            part = facts.get(split)
            if isinstance(part, Mapping):
                found.append(
                    (f"{split}, {part.get('samples', 0):,} samples, drawn", str(part.get("sampled", "")))
                )
    for name, facts in (report.provenance.get("files") or {}).items():
        if isinstance(facts, Mapping) and (digest := facts.get("sha256")):
            found.append((str(name), str(digest)))
    return [*found, *((str(name), str(digest)) for name, digest in report.digests.items())]


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(each)}" for name, each in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(map(_told, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
