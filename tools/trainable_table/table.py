"""The rows of a run as a markdown page: what was reached, what was not and why, and every model."""

from __future__ import annotations

import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]

RESULTS = ("trained", "refused", "not lowered", "diverged", "wrong", "crash", "timeout", "unfed", "nothing")
"""nothing: there is nothing prunable. unfed: this tool found no inputs that the model takes."""
GOAL = 0.97
WIDTH = 120
SHOWN = 12
"""Names listed for one reason."""


def is_judged(row: Row) -> bool:
    """Say whether a model counts: float32, with something prunable (or it could not be seen)."""
    return row["result"] != "nothing" and row.get("kind", "float32") == "float32"


def summary(rows: Sequence[Row]) -> str:
    """Return e.g. "97 of 100 models (97.0 %) train: the goal is 97 %"."""
    judged = [row for row in rows if is_judged(row)]
    trained = sum(row["result"] == "trained" for row in judged)
    share = trained / max(len(judged), 1)
    return f"{trained} of {len(judged)} models ({share:.1%}) train; the goal is {GOAL:.0%}"


def page(rows: Sequence[Row], command: str, beside: Mapping[str, Row] | None = None, note: str = "") -> str:
    """Return the markdown text. command: how it was made. beside: rows of another backend, by model."""
    beside = beside or {}
    rest = [row for row in rows if is_judged(row) and row["result"] != "trained"]
    aside = [row for row in rows if not is_judged(row)]
    lines = ["# Which models can be trained", "", f"<!-- written by {command} -->", "", INTRODUCTION, ""]
    lines += [*textwrap.wrap(note, WIDTH), ""] if note else []
    lines += [
        f"**{summary(rows)}.**",
        "",
        *_by_part(rows),
        "",
        "## The rest, by reason",
        "",
        *_by_reason(rest),
    ]
    lines += ["", "## Not judged", "", *_by_reason(aside)]
    lines += ["", *_compared(rows, beside)] if beside else []
    header = (*HEADER, *_BESIDE) if beside else HEADER
    lines += ["", "## Every model", "", _line(header), _line(["---"] * len(header))]
    lines += [_line([*_cells(row), *(_short(beside.get(row["model"])) if beside else ())]) for row in rows]
    return "\n".join(lines) + "\n"


INTRODUCTION = """\
Every float32 model of the sweeps with something prunable takes 24 steps of Adam on one fixed batch of random inputs
and random targets, through `onnx-oto train` with 30 % of the groups to remove, batch statistics and Dropout where the
model has them. It trains if the last four losses are below the first one on average and the compact model is verified.
The first three parts are forty PyTorch models in three exports each: with BatchNormalization kept (dynamo, not
optimized), in training mode (`training=TrainingMode.TRAINING, do_constant_folding=False`), and dynamo's default."""

HEADER = ("model", "params (M)", "loss", "first", "last", "rate", "params removed", "seconds", "result")


_BESIDE = ("last, other backend", "other backend")


def _compared(rows: Sequence[Row], beside: Mapping[str, Row]) -> list[str]:
    """Return what another backend makes of the models that train."""
    other = next(iter(beside.values()))
    trained = [row["model"] for row in rows if is_judged(row) and row["result"] == "trained"]
    tried = [name for name in trained if name in beside]
    rest = [beside[name] for name in tried if beside[name]["result"] != "trained"]
    more = [
        row["model"] for row in rows if row["model"] in beside and row["result"] not in ("trained", "nothing")
    ]
    more = [name for name in more if beside[name]["result"] == "trained"]
    lines = [f"## With `--backend {other['backend']}`", ""]
    told = (
        f"The same on Python {other['python']} with {other['runtime']}, for {len(tried)} of the {len(trained)} models "
        f"that train: **{len(tried) - len(rest)} of {len(tried)} train there, too.** {_not_run(trained, beside)}"
    )
    lines += textwrap.wrap(told, WIDTH)
    if more:
        lines += ["", *textwrap.wrap(f"There alone train: {', '.join(more)}.", WIDTH)]
    return [*lines, "", *_by_reason(rest)] if rest else lines


def _not_run(trained: Sequence[str], beside: Mapping[str, Row]) -> str:
    """Return in a sentence how many models of each part another backend has not been asked to train."""
    left = Counter(name.split("/")[0] for name in trained if name not in beside)
    if not left:
        return "All have been run."
    whole = Counter(name.split("/")[0] for name in trained)
    parts = ", ".join(f"{part} {count} of {whole[part]}" for part, count in left.items())
    return f"Not run: {parts}."


def _short(row: Row | None) -> tuple[str, str]:
    """Return the last loss and the result of another backend."""
    return ("", "") if row is None else (_number(row.get("last")), str(row["result"]))


def _by_part(rows: Sequence[Row]) -> list[str]:
    parts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        parts[row["model"].split("/")[0]].append(row)
    lines = [_line(("part", "models", "judged", "trained", "share")), _line(["---"] * 5)]
    for name, its in parts.items():
        judged = [row for row in its if is_judged(row)]
        trained = sum(row["result"] == "trained" for row in judged)
        share = f"{trained / len(judged):.1%}" if judged else ""
        lines.append(_line((name, str(len(its)), str(len(judged)), str(trained), share)))
    return lines


def _by_reason(rows: Sequence[Row]) -> list[str]:
    """Return a table of reasons, most frequent first; names, numbers and places do not tell reasons apart."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[alike(row)].append(row)
    if not groups:
        return ["None."]
    lines = [_line(("models", "result", "reason (of the first)", "which")), _line(["---"] * 4)]
    for its in sorted(groups.values(), key=lambda its: -len(its)):
        names = ", ".join(row["model"] for row in its[:SHOWN])
        more = f" and {len(its) - SHOWN} more" if len(its) > SHOWN else ""
        lines.append(
            _line((str(len(its)), its[0]["result"], _escaped(its[0].get("reason", "")), names + more))
        )
    return lines


def alike(row: Row) -> str:
    """Return the reason without what differs from model to model.

    >>> alike({"result": "refused", "reason": "node 'a.1' (LSTM): no gradient; and 3 more nodes"})
    'refused: node * (LSTM): no gradient'
    """
    reason = re.split("; (?:and|node) ", str(row.get("reason", "")))[0]
    reason = re.sub(r"'[^']*'", "*", reason)
    reason = re.sub(r"\[[^\]]*\]", "[]", reason)
    return f"{row['result']}: {re.sub(r'[-+]?[0-9][-+0-9.e]*', '0', reason)[:160]}"


def _cells(row: Row) -> list[str]:
    reason = _escaped(str(row.get("reason", ""))[:300])
    return [
        row["model"],
        f"{row['params'] / 1e6:.2f}" if "params" in row else "",
        row.get("loss", ""),
        _number(row.get("first")),
        _number(row.get("last")),
        f"{row['rate']:g}" if "rate" in row else "",
        f"{row['removed']:.3f}" if "removed" in row else "",
        f"{row['seconds']:.0f}",
        f"{row['result']}: {reason}" if reason else row["result"],
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
