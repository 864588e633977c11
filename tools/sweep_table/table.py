"""The rows of a sweep as a markdown table, and its summary line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

RESULTS = ("exact", "refused", "wrong", "crash", "unverified")
HEADER = (
    "model",
    "params (M)",
    "ceiling",
    "params removed",
    "MACs removed",
    "max rel. diff.",
    "analysis / cut / verify (s)",
    "latency (ms)",
    "result",
)


def summary(rows: Sequence[Row]) -> str:
    """Return e.g. "23 exact, 1 refused, 0 wrong, 1 crashed"."""
    count = Counter(row["result"] for row in rows)
    words = {"crash": "crashed"}
    shown = [name for name in RESULTS if name != "unverified" or count[name]]
    return ", ".join(f"{count[name]} {words.get(name, name)}" for name in shown)


def table(rows: Sequence[Row], title: str) -> str:
    """Return the markdown text: title, summary, one line per row."""
    more = ["OpenVINO"] if any("openvino" in row for row in rows) else []
    header = [*HEADER[:-1], *more, HEADER[-1]]
    lines = [f"# {title}", "", summary(rows), "", _line(header), _line(["---"] * len(header))]
    for row in rows:
        cells = _cells(row)
        lines.append(_line([*cells[:-1], *([_escaped(row.get("openvino", ""))] if more else []), cells[-1]]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: Row) -> list[str]:
    normal, analysis = row.get("s_normalise"), row.get("s_analyse")
    seconds = (
        None if normal is None or analysis is None else normal + analysis,
        row.get("s_cut"),
        row.get("s_verify"),
    )
    full, small = row.get("ms_full"), row.get("ms_compact")
    result = row["result"].upper() if row["result"] in ("wrong", "crash") else row["result"]
    result += _feeds(row)
    result += " (compared in front of operators that jump)" if row.get("jumps") else ""
    reason = _escaped(row.get("reason", ""))
    return [
        row["model"],
        f"{row['params'] / 1e6:.2f}" if "params" in row else "",
        _share(row.get("ceiling")),
        _share(row.get("removed_params")),
        _share(row.get("removed_macs")),
        f"{row['max_rel']:.1e}" if "max_rel" in row else "",
        " / ".join("-" if s is None else f"{s:.2f}" for s in seconds),
        f"{full:.2f} -> {small:.2f}" if full and small else "",
        f"{result}: {reason[:300]}" if reason else result,
    ]


def _escaped(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _feeds(row: Row) -> str:
    """Return e.g. " (3 feeds)" or " (2 feeds, 1 skipped)" for a model with feeds beside it."""
    if "feeds" not in row:
        return ""
    skipped = f", {row['skipped']} skipped" if row["skipped"] else ""
    return f" ({row['feeds']} feeds{skipped})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
