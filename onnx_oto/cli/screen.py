"""What the user sees: results on stdout, progress on stderr, both by rich."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table

from onnx_oto.pipeline import Gain, Pruned, Trained
from onnx_oto.pipeline.folder import COMPACT
from onnx_oto.pipeline.summary import Change, Summary
from onnx_oto.training import EpochEnded, Event, Started, Stepped
from onnx_oto.verify import Verdict, size_text

out = Console(highlight=False, soft_wrap=True)
MOST_SIZES = 4


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object; numbers that JSON cannot hold become null."""
    click.echo(json.dumps(_plain(value), indent=1))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Progress:
    """A bar with loss, zero groups and time left on stderr, or lines where stderr is no terminal.

    Also an observer of training. Without a terminal a line comes every `every` seconds, as one epoch may take
    minutes.
    """

    def __init__(self, *, every: float = 10.0) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._every = every
        self._pace = Pace(0, 0.0)
        self._spoke = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._spoke = time.perf_counter()
        self._console.print(text, markup=False, soft_wrap=True)

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        if isinstance(event, Started):
            self._task = self._bar.add_task("training", total=event.total, completed=event.step, figures="")
            self._pace = Pace(event.step, time.perf_counter())
            self._spoke = self._pace.begin
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, EpochEnded):
            self.say(_epoch_line(event))

    def _step(self, event: Stepped) -> None:
        figures = _figures_of(event)
        if self._console.is_terminal and self._task is not None:
            self._bar.update(self._task, completed=event.step, figures=figures)
        elif time.perf_counter() - self._spoke >= self._every and event.step < event.total:
            left = self._pace.left(event.step, event.total, time.perf_counter())
            self.say(f"step {event.step} of {event.total}: {figures}, about {left:.0f} s left")


@dataclass(frozen=True)
class Pace:
    """When training began (seconds of a clock), and at which step."""

    step: int
    begin: float

    def left(self, step: int, total: int, now: float) -> float:
        """Return the seconds that are left at the pace so far."""
        return (now - self.begin) * (total - step) / max(step - self.step, 1)


def _figures_of(event: Stepped) -> str:
    goal = "" if event.target is None else f" of {event.target}"
    return f"loss {event.loss:.3f}, {event.phase}, zero groups {event.zeroed}{goal}"


def _epoch_line(event: EpochEnded) -> str:
    value = "" if event.value is None else f"  test {event.metric} {event.value:.4f}"
    goal = "" if event.target is None else f" of {event.target}"
    left = event.total - event.step
    eta = event.seconds * left / max(event.step / event.epoch, 1)
    remaining = f", about {eta:.0f} s left" if left else ""
    return (
        f"epoch {event.epoch}: loss {event.loss:.4f}{value}  {event.phase}, zero groups {event.zeroed}{goal} "
        f"({event.seconds:.1f} s{remaining})"
    )


def print_trained(result: Trained, gain: Gain) -> None:
    """Print the table of full against compact model, and where the files are."""
    summary, (full, small) = gain.summary, gain.scores
    slow, fast = gain.latencies
    table = _change_table(summary)
    table.add_row(
        "latency", f"{slow.median:.3f} ms", f"{fast.median:.3f} ms", _times(slow.median, fast.median)
    )
    table.add_row(f"test {full.metric}", f"{full.value:.4f}", f"{small.value:.4f}", "")
    out.print(table)
    out.print(
        f"groups zeroed and removed: {summary.removed} of {summary.prunable} "
        f"({result.achieved:.1%}, target {result.target:.1%})"
    )
    print_verdict(summary.verdict)
    out.print(f"compact model: {result.run / COMPACT}   ({result.seconds:.0f} s in all)", markup=False)


def print_pruned(result: Pruned, output: Path, as_json: bool) -> None:
    """Print what `prune` or `compact` did."""
    if as_json:
        print_json(result.as_json())
        return
    print_notes(result.notes)
    out.print(_change_table(result.summary))
    out.print(f"channels removed: {result.summary.removed} of {result.summary.prunable} prunable")
    change = result.summary.verdict.original
    print_verdict(result.summary.verdict)
    if change is not None:
        out.print(
            f"not fine-tuned: outputs are off the original model's by {change.max_rel:.2g} of the largest output "
            f"({change.max_abs:.2g})"
        )
    out.print(
        f"compact model: {output}   (cut {result.cut_seconds:.2f} s, verification {result.verify_seconds:.2f} s)",
        markup=False,
    )


def print_notes(notes: Iterable[str]) -> None:
    """Print what is strange about a model on stderr, a line for each."""
    for note in notes:
        click.echo(f"note: the model has {note}", err=True)


def print_verdict(verdict: Verdict) -> None:
    """Print the verdict in a line, where it holds in another, and one more for all that a reader must know."""
    for line in _verdict_lines(verdict):
        out.print(line, markup=False)


def print_inspection(report: Mapping[str, Any]) -> None:
    """Print dimensions, what is frozen and why, the ceiling, quantized weights, and channel permutations that stay."""
    print_notes(report["notes"])
    dimensions = report["dimensions"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (
        ("dimension", "left"),
        ("size", "right"),
        ("params", "right"),
        ("prunable", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for d in dimensions:
        note = "; ".join(d["constraints"][1:]) if d["prunable"] else d["reason"]
        if d.get("chain"):
            note += " (through " + " <- ".join(d["chain"]) + ")"
        state = ("yes" + (f", {note}" if note else "")) if d["prunable"] else f"no: {note}"
        table.add_row(
            d["name"], str(d["size"]), str(len(d["uses"])), state, style=None if d["prunable"] else "dim"
        )
    out.print(table)
    share = report["prunable_params"] / max(report["params"], 1)
    most = report["removable_params"] / max(report["params"], 1)
    lanes = sum(d["size"] for d in dimensions if d["prunable"])
    out.print(
        f"{report['params']:,} parameters, {report['macs']:,} MACs{_at(report['macs_at'])}. {lanes:,} channels in "
        f"{sum(d['prunable'] for d in dimensions)} of {len(dimensions)} dimensions are prunable; "
        f"{share:.1%} of the parameters lie in them, {most:.1%} can go at most."
    )
    if quantized := report["quantized"]:
        others = f" and {len(quantized) - 1} more" if len(quantized) > 1 else ""
        out.print(
            f"'{quantized[0]}'{others}: quantized, so the channels that belong to it stay; prune the float model "
            "first, then quantize the compact one",
            markup=False,
        )
    for each in report["permutations"]:
        out.print(
            f"a permutation of {each['size']} channels stays as a Gather at '{each['node']}': {each['reason']}",
            markup=False,
        )


def _change_table(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("full", "compact", "kept"):
        table.add_column(name, justify="right")
    for name, change, unit in (
        ("parameters", summary.params, ""),
        (f"MACs{_at(summary.macs_at)}", summary.macs, ""),
        ("file size", summary.size, " bytes"),
    ):
        table.add_row(name, *_figures(change, unit))
    return table


def _figures(change: Change, unit: str) -> tuple[str, str, str]:
    return f"{change.before:,}{unit}", f"{change.after:,}{unit}", f"{change.kept:.1%}"


def _at(sizes: Mapping[str, int]) -> str:
    """Return the open sizes that something was counted at, "" if there are none."""
    listed = ", ".join(f"{escape(name)}={size}" for name, size in sizes.items())
    return f" (at {listed})" if listed else ""


def _times(full: float, small: float) -> str:
    return f"{full / small:.2f}x faster" if small and full >= small else f"{small / full:.2f}x slower"


def _verdict_lines(verdict: Verdict) -> Iterator[str]:
    if verdict.passed:
        yield (
            f"full and compact agree: largest difference {verdict.max_abs:.2g} "
            f"({verdict.max_rel:.2g} of the largest output) on {verdict.samples} samples"
        )
    else:
        yield f"full and compact DIFFER: {verdict.trouble}"
    if verdict.runtime:
        wide = ", bfloat16 computed as float32" if verdict.upcast else ""
        where = _sizes_line(verdict)
        at = f", {'at' if verdict.passed else 'after they agreed at'} {where}" if where else ""
        yield f"  in {verdict.runtime}{wide}{at}"
    if verdict.refusal:
        yield f"  NOT in ONNX Runtime, which does not run the full model: {verdict.refusal}"
    if verdict.unstable:
        where = "; ".join(size_text(sizes) for sizes in verdict.unstable[:3])
        yield f"  {verdict.runtime} does not repeat the full model's own results at {where}: not compared there"
    if verdict.jumping:
        yield f"  compared in front of {', '.join(verdict.jumping)}: rounding decides what those give"
    if verdict.noise:
        yield f"  the full model's own rounding errors are up to {verdict.noise:.2g} of the largest output"
    if verdict.inner:
        yield f"  outputs show too little; tensors compared too: {', '.join(verdict.inner[:4])}"


def _sizes_line(verdict: Verdict) -> str:
    found = [size_text(sizes) for sizes in verdict.sizes]
    rest = f" and {len(found) - MOST_SIZES} more" if len(found) > MOST_SIZES else ""
    skipped = f" ({verdict.skipped} skipped: the full model does not run there)" if verdict.skipped else ""
    return "; ".join(found[:MOST_SIZES]) + rest + skipped
