"""The rows of a run as a markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_reference.measure import ALLOWED, NOISE
from torch_reference.steps import SAMPLES, STEPS, WAYS

Row = dict[str, Any]

KINDS = {
    "gradient": "gradients",
    "statistic": "running statistics",
    **{way: way for way in WAYS},
}
LARGEST_LOSS_ERROR = 1e-5
"""Of one number, PyTorch's own error is a matter of luck and no measure."""
LEAST_FOUND = 0.999
"""Of PyTorch's numbers, how many must be trained here at all."""


def troubles(row: Row) -> list[str]:
    """Return what is not within the bounds, in words."""
    if "error" in row:
        return [str(row["error"])]
    found = [
        f"{title} {row[kind]['ratio']:.3g} times ({row[kind].get('worst', '')})"
        for kind, title in KINDS.items()
        if kind in row and not row[kind]["ratio"] <= ALLOWED
    ]
    if not row["loss"]["ours"] <= LARGEST_LOSS_ERROR:
        found.append(f"the loss is another one: {row['loss']['ours']:.1e} off")
    if row["untrained"]:
        found.append(f"not trained: {', '.join(row['untrained'][:4])}")
    if row["found"] < LEAST_FOUND:
        found.append(f"only {row['found']:.2%} of the numbers are trained")
    if row["copied"] > 0:
        found.append(f"{row['copied']:.2%} of the numbers are trained in copies")
    if row["foreign"]:
        found.append(f"trained, but no parameter of PyTorch: {', '.join(row['foreign'][:4])}")
    return found


def summary(rows: Sequence[Row]) -> str:
    """Return how many models are within the bounds."""
    good = sum(not troubles(row) for row in rows)
    return f"{good} of {len(rows)} models are within {ALLOWED:g} times PyTorch's own float32 error"


def page(rows: Sequence[Row]) -> str:
    """Return the markdown text."""
    header = ["model", "params (M)", *KINDS.values(), "trouble"]
    lines = [
        "# Training against PyTorch",
        "",
        "<!-- written by tools/against_torch -->",
        "",
        INTRODUCTION,
        "",
    ]
    lines += [f"**{summary(rows)}.**", "", _line(header), _line(["---"] * len(header))]
    lines += [_line(_cells(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _ways() -> str:
    return ", ".join(
        f"{name} (lr {way.lr:g}, weight decay {way.weight_decay:g})" for name, way in WAYS.items()
    )


INTRODUCTION = f"""\
The same weights, batch ({SAMPLES} samples) and loss here and in PyTorch, Dropout off, BatchNormalization in training:
loss, gradients and running statistics of one step, and the parameters after {STEPS} steps of
{_ways()}, with decay of all
parameters. Every cell: our error / PyTorch's own float32 error (ratio), both measured against PyTorch in float64.
Both sides run three times, with the samples in other orders and inputs moved by a unit in the last place, which
changes nothing but the rounding. PyTorch's error is the largest of three; ours the middle one, and after steps the
smallest: a ReLU that turns in another step makes some runs worse by orders of magnitude, a fault makes all of them so.
For gradients ||g - g64|| / ||g64|| over all parameters, for parameters after steps relative to how far they moved, for
statistics the worst one, relative to how far it moved. Numbers whose gradient is nothing but noise in PyTorch's float32
(a bias in front of a normalisation: more than {NOISE:.0%} off in the first step) do not count after steps. At least
{LEAST_FOUND:.1%} of the numbers that PyTorch trains must be trained here, each once, every parameter at least in part,
and nothing else."""


def _cells(row: Row) -> list[str]:
    cells = [row["model"], f"{row['params'] / 1e6:.2f}" if "params" in row else ""]
    for kind in KINDS:
        its = row.get(kind)
        cells.append("" if its is None else f"{its['ours']:.1e} / {its['theirs']:.1e} ({its['ratio']:.2g})")
    return [*cells, "; ".join(troubles(row)).replace("|", "\\|").replace("\n", " ")[:600]]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
