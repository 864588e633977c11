"""The rows of a run as a markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_reference.measure import ALLOWED, NOISE
from torch_reference.steps import BATCHES, SAMPLES, SMOOTH, STEPPED, STEPS, WAYS

Row = dict[str, Any]

KINDS = {
    "gradient": "gradients",
    "statistic": "running statistics",
    **{way: way for way in WAYS},
    "later": f"statistics after {STEPS} steps",
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
        if kind in row and not _within(row, kind)
    ]
    if not row["loss"]["ours"] <= LARGEST_LOSS_ERROR:
        found.append(f"the loss is another one: {row['loss']['ours']:.1e} off")
    if row["untrained"]:
        found.append(f"not trained: {', '.join(row['untrained'][:4])}")
    if row["found"] < LEAST_FOUND:
        found.append(f"only {row['found']:.2%} of the numbers are trained")
    if row["copied"] > 0:
        found.append(f"{row['copied']:.2%} of the numbers are trained in copies")
    if row["decay"]:
        found.append(f"decayed by one side alone: {', '.join(row['decay'][:4])}")
    if row["foreign"]:
        found.append(f"trained, but no parameter of PyTorch: {', '.join(row['foreign'][:4])}")
    return found


def _within(row: Row, kind: str) -> bool:
    """Say whether a quantity is within the bounds, by the rule in `INTRODUCTION`."""
    return _scatters(row, kind) or bool(row[kind]["ratio"] <= ALLOWED)


def _scatters(row: Row, kind: str) -> bool:
    """Say whether kinks and many steps make the errors scatter over orders of magnitude."""
    smooth = str(row["model"]).endswith(SMOOTH) or not row.get("kinks")
    return not smooth and kind in (*WAYS, "later")


def summary(rows: Sequence[Row]) -> str:
    """Return how many models are within the bounds."""
    good = sum(not troubles(row) for row in rows)
    apart = sum(str(row["model"]).endswith(SMOOTH) for row in rows)
    what = f"{len(rows) - apart} models and {apart} smooth forms" if apart else f"{len(rows)} models"
    return f"Of {what}, {good} are within {ALLOWED:g} times PyTorch's own float32 error"


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
    lines += ["", CHANCE, "", _line(["model", *AMPLIFIED]), _line(["---"] * (len(AMPLIFIED) + 1))]
    lines += [_line(_amplified(row)) for row in rows if "gradient" in row]
    return "\n".join(lines) + "\n"


def _ways() -> str:
    return ", ".join(
        f"{name} (lr {way.lr:g}, weight decay {way.weight_decay:g})" for name, way in WAYS.items()
    )


INTRODUCTION = f"""\
The same weights, batches ({SAMPLES} samples) and loss here and in PyTorch, Dropout off, BatchNormalization in training:
gradients and running statistics of one step, and the parameters and statistics after {STEPS} steps of
{_ways()}.
Weight decay is not for norms and biases, except in the last. Statistics after the steps are those of SGD.

Every cell: our error / PyTorch's own float32 error (ratio), both measured against PyTorch in float64.
For gradients the error is ||g - g64|| / ||g64|| over all parameters, for parameters after steps it is relative to how
far they moved, for statistics it is that of the worst one, relative to how far it moved.

**The rule**, for all models alike: both sides run once on each of several batches ({BATCHES}; {STEPPED} of them for
steps). The median of our errors over the batches is at most {ALLOWED:g} times the median of PyTorch's. Errors below
half a unit in the last place of float32 count as that. A ReLU or a maximum that decides otherwise because of rounding
makes single runs worse by orders of magnitude, on either side. So every model that has such kinks is compared in a
smooth form as well (`{SMOOTH}`: Softplus for ReLU and its kin, average for maximum pooling). The rule holds for
everything after one step, with kinks or without, and for everything after {STEPS} steps of models without kinks and of
the smooth forms. After {STEPS} steps with kinks (`~` in the table) both sides scatter over orders of
magnitude, even PyTorch's float64 when its weights move by one rounding: those cells are shown and judge nothing.

Numbers whose gradient is nothing but noise in PyTorch's float32 (a bias in front of a normalisation: more than
{NOISE:.0%} off in the first step) do not count after steps. At least {LEAST_FOUND:.1%} of the numbers that PyTorch
trains must be trained here, each once, every parameter at least in part, and nothing else; the loss must be the same to
{LARGEST_LOSS_ERROR:g}, and weight decay be for the same parameters (in PyTorch: weights of layers, and of the rest what
has more than one axis).

To run it: `tools/against_torch`, which makes an environment with PyTorch at the first run; `--only NAME` for one model
or others of the forty of `tools/zoo trained`, `--fresh` for all anew, `--help` for the rest."""
CHANCE = """\
## What rounding alone does

PyTorch in float64, when half of all weights move by one unit in the last place of float32: how far that moves the
gradient, next to the float32 errors on single batches. Where errors are far above it by orders, a kink was passed."""
AMPLIFIED = (
    "gradient, weights moved, float64",
    "ours, by batch",
    "PyTorch's float32, by batch",
    "left out after steps",
)


def _amplified(row: Row) -> list[str]:
    its = row["gradient"]
    runs = [" ".join(f"{error:.1e}" for error in its["all"][side]) for side in ("ours", "theirs")]
    left = row.get("SGD", {}).get("left_out", 0.0)
    return [row["model"], f"{its['moved']:.1e}" if "moved" in its else "", *runs, f"{left:.1%}"]


def _cells(row: Row) -> list[str]:
    cells = [row["model"], f"{row['params'] / 1e6:.2f}" if "params" in row else ""]
    for kind in KINDS:
        its = row.get(kind)
        mark = "~ " if its is not None and _scatters(row, kind) else ""
        cells.append(
            "" if its is None else f"{mark}{its['ours']:.1e} / {its['theirs']:.1e} ({its['ratio']:.2g})"
        )
    return [*cells, "; ".join(troubles(row)).replace("|", "\\|").replace("\n", " ")[:600]]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
