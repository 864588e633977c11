"""What the user sees: results on stdout, progress on stderr, both by rich.

Rich gets no text that did not pass `shown`, and interprets none (no markup): names come from outside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table

from onnx_oto.cli.streams import PROGRESS, RESULTS, Stream
from onnx_oto.cli.text import shown
from onnx_oto.pipeline.folder import COMPACT
from onnx_oto.pipeline.prune import Pruned
from onnx_oto.pipeline.result import Gain, Trained
from onnx_oto.pipeline.summary import Change, Summary
from onnx_oto.runtime.comparing import Verdict, size_text
from onnx_oto.training import EpochEnded, Event, Started, Stepped

MOST_SIZES = 4
NARROW = 60
"""Columns below which dimensions are listed in lines, not in a table."""
WIDE_BAR, BAR = 110, 72
"""Columns that all figures of training with a bar take, and without."""


def console(stream: Stream) -> Console:
    """Return where rich prints: no escape codes at all under NO_COLOR, as if it were no terminal."""
    terminal = False if os.environ.get("NO_COLOR") else None
    file = cast(IO[str], stream)
    return Console(
        file=file,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
        force_terminal=terminal,
        width=_columns_of(stream),
    )


def _columns_of(stream: Stream) -> int | None:
    """Return the width of the terminal that a stream leads to; None lets rich decide (COLUMNS, or 80)."""
    if "COLUMNS" in os.environ or not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


out = console(RESULTS)


def print_line(text: str) -> None:
    """Print one line of the result."""
    out.print(shown(text))


def add_row(table: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of cells."""
    table.add_row(*map(shown, cells), style=style)


class Progress:
    """A bar with loss, zero groups and time left on stderr, or lines where stderr is no terminal.

    Also an observer of training. Without a terminal a line comes every `every` seconds, as one epoch may take
    minutes.
    """

    def __init__(self, *, every: float = 10.0) -> None:
        self._console = console(PROGRESS)
        self._moves = self._console.is_terminal and not self._console.is_dumb_terminal
        self._bar = Bar(
            *_columns(self._console.width),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._moves,
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
        self._console.print(shown(text))

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        if isinstance(event, Started):
            self._task = self._bar.add_task(
                "training", total=event.total, completed=event.step, figures="", loss=""
            )
            self._pace = Pace(event.step, time.perf_counter())
            self._spoke = self._pace.begin
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, EpochEnded):
            self.say(_epoch_line(event))

    def _step(self, event: Stepped) -> None:
        figures = _figures_of(event)
        if self._moves and self._task is not None:
            loss, _, _ = figures.partition(",")
            self._bar.update(self._task, completed=event.step, figures=figures, loss=loss)
        elif time.perf_counter() - self._spoke >= self._every and event.step < event.total:
            left = self._pace.left(event.step, event.total, time.perf_counter())
            self.say(f"step {event.step} of {event.total}: {figures}, about {left:.0f} s left")


def _columns(width: int) -> list[ProgressColumn]:
    """Return what fits into `width` columns; rich would cut the rest off."""
    done, remaining, left = MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left")
    figures = TextColumn("{task.fields[figures]}", markup=False)
    if width >= WIDE_BAR:
        name = TextColumn("{task.description}", markup=False)
        return [name, BarColumn(24), done, figures, TimeElapsedColumn(), left, remaining]
    if width >= BAR:
        return [done, figures, left, remaining]
    return [done, TextColumn("{task.fields[loss]}", markup=False), left, remaining]


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
    rows = _change_rows(summary)
    times = _times(slow.median, fast.median)
    rows.append(("latency", f"{slow.median:.3f} ms", f"{fast.median:.3f} ms", times))
    rows.append((f"test {full.metric}", f"{full.value:.4f}", f"{small.value:.4f}", ""))
    for name, value in full.further.items():
        rows.append((f"test {name}", f"{value:.4f}", f"{small.further[name]:.4f}", ""))
    _print_changes(rows)
    print_line(
        f"groups zeroed and removed: {summary.removed} of {summary.prunable} "
        f"({result.achieved:.1%}, target {result.target:.1%})"
    )
    print_verdict(summary.verdict)
    print_line(f"compact model: {result.run / COMPACT}   ({result.seconds:.0f} s in all)")


def print_pruned(result: Pruned, output: Path) -> None:
    """Print what `prune` or `compact` did."""
    print_notes(result.notes)
    _print_changes(_change_rows(result.summary))
    print_line(f"channels removed: {result.summary.removed} of {result.summary.prunable} prunable")
    change = result.summary.verdict.original
    print_verdict(result.summary.verdict)
    if change is not None:
        print_line(
            f"not fine-tuned: outputs are off the original model's by {change.max_rel:.2g} of the largest output "
            f"({change.max_abs:.2g})"
        )
    print_line(
        f"compact model: {output}   (cut {result.cut_seconds:.2f} s, verification {result.verify_seconds:.2f} s)"
    )


def print_notes(notes: Iterable[str]) -> None:
    """Print what is strange about a model on stderr, a line for each."""
    for note in notes:
        console(PROGRESS).print(shown(f"note: the model has {note}"))


def print_verdict(verdict: Verdict) -> None:
    """Print the verdict in a line, where it holds in another, and one more for all that a reader must know."""
    for line in _verdict_lines(verdict):
        print_line(line)


def print_inspection(report: Mapping[str, Any]) -> None:
    """Print dimensions, what is frozen and why, the ceiling, quantized weights, and channel permutations that stay."""
    print_notes(report["notes"])
    dimensions = report["dimensions"]
    _print_dimensions([(d["name"], d["size"], len(d["uses"]), _state(d), d["prunable"]) for d in dimensions])
    share = report["prunable_params"] / max(report["params"], 1)
    most = report["removable_params"] / max(report["params"], 1)
    lanes = sum(d["size"] for d in dimensions if d["prunable"])
    print_line(
        f"{report['params']:,} parameters, {report['macs']:,} MACs{_at(report['macs_at'])}. {lanes:,} channels in "
        f"{sum(d['prunable'] for d in dimensions)} of {len(dimensions)} dimensions are prunable; "
        f"{share:.1%} of the parameters lie in them, {most:.1%} can go at most."
    )
    if quantized := report["quantized"]:
        others = f" and {len(quantized) - 1} more" if len(quantized) > 1 else ""
        print_line(
            f"'{quantized[0]}'{others}: quantized, so the channels that belong to it stay; prune the float model "
            "first, then quantize the compact one"
        )
    for each in report["permutations"]:
        print_line(
            f"a permutation of {each['size']} channels stays as a Gather at '{each['node']}': {each['reason']}"
        )


def _print_dimensions(rows: list[tuple[str, int, int, str, bool]]) -> None:
    if out.width < NARROW:
        for name, size, params, state, _ in rows:
            print_line(f"{name}: size {size}, params {params}")
            print_line(f"  {state}")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("dimension", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("params", justify="right", no_wrap=True)
    table.add_column("prunable", overflow="fold")
    for name, size, params, state, prunable in rows:
        add_row(table, name, str(size), str(params), state, style=None if prunable else "dim")
    out.print(table)


def _state(dimension: Mapping[str, Any]) -> str:
    """Return whether a dimension is prunable, with constraints, or with what keeps it."""
    note = "; ".join(dimension["constraints"][1:]) if dimension["prunable"] else dimension["reason"]
    if chain := dimension.get("chain"):
        note += " (through " + " <- ".join(chain) + ")"
    if not dimension["prunable"]:
        return f"no: {note}"
    return f"yes, {note}" if note else "yes"


Row = tuple[str, str, str, str]
"""What is compared, in the full model, in the compact one, and what is left of it."""


def _change_rows(summary: Summary) -> list[Row]:
    return [
        ("parameters", *_figures(summary.params, "")),
        (f"MACs{_at(summary.macs_at)}", *_figures(summary.macs, "")),
        ("file size", *_figures(summary.size, " bytes")),
    ]


def _print_changes(rows: list[Row]) -> None:
    """Print a table, or lines where it does not fit."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for name in ("full", "compact", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        add_row(table, *row)
    unlimited = out.options.update(max_width=10**6)
    if out.measure(table, options=unlimited).maximum <= out.width:
        out.print(table)
        return
    for name, full, compact, kept in rows:
        print_line(f"{name}: {full} -> {compact}" + (f" ({kept})" if kept else ""))


def _figures(change: Change, unit: str) -> tuple[str, str, str]:
    return f"{change.before:,}{unit}", f"{change.after:,}{unit}", f"{change.kept:.1%}"


def _at(sizes: Mapping[str, int]) -> str:
    """Return the open sizes that something was counted at, "" if there are none."""
    listed = ", ".join(f"{name}={size}" for name, size in sizes.items())
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
