"""Runs as a table in Markdown: a line for every network, dense and sparse side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
HEAD = (
    "| network | data | width | epochs | dense | of what is known | full | compact | groups removed (target) "
    "| parameters | left | MACs left | largest difference | seconds, dense / sparse |"
)


def table(rows: Iterable[Row]) -> str:
    """Return one line for each network, data, width, length and seed; what is not there yet is a dash."""
    groups: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("network", "data", "width", "epochs", "seed"))
        groups.setdefault(key, {})["dense" if row["optimizer"] == "dense" else "sparse"] = row
    lines = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1)]
    return "\n".join(lines + [_line(group) for group in groups.values()])


def _line(group: dict[str, Row]) -> str:
    dense, sparse = group.get("dense"), group.get("sparse")
    some = sparse or group["dense"]
    cells = [some["network"], some["data"], f"{some['width']:g}", str(some["epochs"])]
    cells += [
        _value(dense, "full"),
        _reached(dense or some, dense),
        _value(sparse, "full"),
        _value(sparse, "compact"),
    ]
    if sparse is None:
        cells += ["-", f"{some['params']['before']:,}", "-", "-", "-"]
    else:
        share, lanes = sparse["sparsity"], sparse["lanes"]
        cells += [
            f"{lanes['removed']} of {lanes['prunable']}, {share['achieved']:.1%} ({share['target']:.1%})",
            f"{sparse['params']['before']:,}",
            *(f"{sparse[key]['after'] / sparse[key]['before']:.1%}" for key in ("params", "macs")),
            f"{sparse['largest_difference']:.1e}" if sparse["agree"] else "DIFFERS",
        ]
    cells.append(" / ".join("-" if row is None else f"{row['seconds']:.0f}" for row in (dense, sparse)))
    return f"| {' | '.join(cells)} |"


def _value(row: Row | None, form: str) -> str:
    if row is None:
        return "-"
    value = row["metric"][form]
    return f"{value:.2f} dB" if row["metric"]["name"] == "psnr" else f"{value:.4f}"


def _reached(row: Row, dense: Row | None) -> str:
    if dense is None:
        return "-"
    if "bicubic" in row:
        return f"{dense['metric']['full'] - row['bicubic']:+.2f} dB of bicubic {row['bicubic']:.2f}"
    return (
        "-" if row["known"] is None else f"{dense['metric']['full'] / row['known']:.0%} of {row['known']:.3f}"
    )
