"""What the study found: tables with mean and standard error, and a picture."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from pieces import WAYS
from running import LINES

Line = dict[str, Any]


def read(runs: Path) -> list[Line]:
    """Return the lines of all pieces that are done."""
    place = runs / LINES
    return [json.loads(line) for line in place.read_text().splitlines()] if place.exists() else []


def tables(runs: Path) -> str:
    """Return the tables of validation and of test images, in Markdown: a row for each way, a column for each budget."""
    lines = read(runs)
    budgets = sorted({line["budget"] for line in lines if line["budget"] is not None}, reverse=True)
    parts = []
    for split, told in (("val", "validation images, to choose by"), ("test", "test images")):
        parts.append(f"### Accuracy on {told}\n")
        parts.append("| way | " + " | ".join(f"{b:.0%} of the MACs" for b in budgets) + " | mean | seeds |")
        parts.append("| --- |" + " --- |" * (len(budgets) + 2))
        for way in WAYS:
            own = [line for line in lines if line["way"] == way and line[split] is not None]
            if own:
                parts.append(_row(way, own, budgets, split))
        parts.append("")
    return "\n".join(parts)


def _row(way: str, own: list[Line], budgets: list[float], split: str) -> str:
    if way == "dense":
        found = spread([line[split] for line in own])
        cells = [found] + [""] * (len(budgets) - 1) if budgets else [found]
        return f"| {way} (100 %) | " + " | ".join(cells) + f" | {found} | {len(own)} |"
    by_budget = [[line[split] for line in own if line["budget"] == budget] for budget in budgets]
    means = [statistics.mean(values) for values in by_budget if values]
    mean = f"{statistics.mean(means):.4f}" if len(means) == len(budgets) else "-"
    seeds = sorted({line["seed"] for line in own})
    cells = [spread(values) if values else "-" for values in by_budget]
    return f"| {way} | " + " | ".join(cells) + f" | {mean} | {len(seeds)} |"


def spread(values: list[float]) -> str:
    """Return mean and standard error.

    >>> spread([0.5, 0.7]), spread([0.5])
    ('0.6000 ± 0.1000', '0.5000')
    """
    if len(values) < 2:
        return f"{values[0]:.4f}"
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values) / len(values) ** 0.5:.4f}"


def picture(runs: Path, place: Path) -> None:
    """Draw test accuracy over the share of MACs that is kept, a line for each way."""
    from matplotlib import pyplot

    lines = read(runs)
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    dense = [line["test"] for line in lines if line["way"] == "dense"]
    if dense:
        axes.axhline(statistics.mean(dense), color="grey", linestyle=":", label="dense")
    for way in WAYS:
        points: dict[float, list[Line]] = {}
        for line in lines:
            if line["way"] == way and line["budget"] is not None:
                points.setdefault(line["budget"], []).append(line)
        if not points:
            continue
        at = sorted(points)
        x = [statistics.mean(line["macs"] for line in points[budget]) for budget in at]
        y = [statistics.mean(line["test"] for line in points[budget]) for budget in at]
        off = [_error([line["test"] for line in points[budget]]) for budget in at]
        axes.errorbar(x, y, off, marker="o", capsize=3, label=way)
    axes.set(xlabel="MACs kept", ylabel="test accuracy", xscale="log")
    axes.legend()
    figure.tight_layout()
    figure.savefig(place)


def _error(values: list[float]) -> float:
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
