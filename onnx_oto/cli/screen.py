"""What the user sees of results, on stdout: tables and lines, by rich.

Rich gets no text that did not pass `shown`, and interprets none (no markup): names come from outside.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console
from rich.table import Table

from onnx_oto.cli.streams import PROGRESS, RESULTS, Stream
from onnx_oto.cli.text import lasting, shown

if TYPE_CHECKING:  # what is printed; looking at a model loads nothing that runs or trains one
    from onnx_oto.pipeline.budgeting import Plan
    from onnx_oto.pipeline.by_data import Judgements
    from onnx_oto.pipeline.inspecting import Inspected, InspectedDimension
    from onnx_oto.pipeline.prune import Pruned
    from onnx_oto.pipeline.result import Gain, Trained
    from onnx_oto.pipeline.summary import Change, Summary
    from onnx_oto.runtime.comparing import Departure, Verdict
    from onnx_oto.runtime.timing import Latencies

MOST_SIZES = 4
ALIKE = 1.1
"""How many times as long a model may take for both to be called about the same where noise hides which is faster."""
LEAST_NAME = 24
"""Characters that the names of figures are folded to in a table, before there are lines in its place."""
MOST_ROWS = 1000
"""Dimensions that are listed: whoever has more reads them by a program."""
NARROW = 60
"""Columns below which dimensions are listed in lines, not in a table."""


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


def print_trained(result: Trained, gain: Gain) -> None:
    """Print the table of full against compact model, and where the files are."""
    from onnx_oto.pipeline.folder import COMPACT
    from onnx_oto.runtime.timing import Latencies

    summary = gain.summary
    rows = _change_rows(summary)
    original: dict[str, str] = {}
    for name, values in gain.metrics().items():
        row = f"test {name}"
        full, small = values["full"], values["compact"]
        rows.append((row, f"{full:.4f}", f"{small:.4f}", ""))
        before = values["original"]
        original[row] = "-" if before is None else f"{before:.4f}"
    _print_changes(rows, original)
    _print_latency_notes(summary)
    target = "" if result.target is None else f", target {result.target:.1%}"
    more = f"; {result.besides} of them were zero besides those that were chosen" if result.besides else ""
    print_line(
        f"groups zeroed and removed: {summary.removed:,} of {summary.prunable:,} ({result.achieved:.1%}{target}){more}"
    )
    for budget, cost in result.costs():
        kept = "kept" if cost <= budget.most else "MISSED"
        told = budget.told(cost)
        if budget.name == "latency" and isinstance(latency := summary.latency, Latencies):
            told = f"{cost / budget.full:.1%} of the latency ({latency.compact.text} of {latency.full.text})"
        print_line(f"budget {kept}: {told}, asked for {budget.asked}")
    print_verdict(summary.verdict)
    print_line(f"compact model: {result.run / COMPACT}   ({lasting(result.seconds)} in all)")


def announce(plan: Plan) -> None:
    """Tell a person who waits what will go; others read it with the result."""
    if PROGRESS.isatty():
        for sentence in plan.sentences():
            say(sentence)


def print_pruned(result: Pruned, output: Path) -> None:
    """Print what `prune` or `compact` did."""
    print_notes(result.notes)
    if result.plan is not None and not PROGRESS.isatty():
        for sentence in result.plan.sentences():
            print_line(sentence)
    _print_changes(_change_rows(result.summary))
    _print_latency_notes(result.summary)
    print_line(f"channels removed: {result.summary.removed:,} of {result.summary.prunable:,} prunable")
    if result.judged is not None:
        print_judged(result.judged)
    change = result.summary.verdict.original
    print_verdict(result.summary.verdict)
    if change is not None:
        tuned = "refitted" if result.judged is not None and result.judged.layers else "not fine-tuned"
        print_line(f"{tuned}: {change_text(change)}")
    timed = f", latency {result.latency_seconds:.2f} s" if result.summary.latency is not None else ""
    print_line(
        f"compact model: {output}   (cut {result.cut_seconds:.2f} s, verification {result.verify_seconds:.2f} s{timed})"
    )


def change_text(change: Departure) -> str:
    """Return how far outputs are off; where there is no distance (strings, other shapes, no numbers) only that."""
    if not math.isfinite(change.max_abs):
        return "outputs are not those of the original model"
    return (
        f"outputs are off the original model's by {change.max_rel:.2g} of the largest output "
        f"({change.max_abs:.2g})"
    )


def print_judged(judged: Judgements) -> None:
    """Print what test data say of a model as it was brought, cut, and refitted: a table, or lines on narrow screens."""
    rows = [
        (model, {name: f"{value:.4f}" for name, value in found.items()}) for model, found in judged.rows()
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"on {judged.original.samples:,} test samples", overflow="fold")
    for name in rows[0][1]:
        table.add_column(shown(name), justify="right", no_wrap=True)
    for model, found in rows:
        add_row(table, model, *found.values())
    if out.measure(table, options=out.options.update(max_width=10**6)).maximum <= out.width:
        out.print(table)
    else:
        print_line(f"on {judged.original.samples:,} test samples:")
        for model, found in rows:
            print_line(f"  {model}: " + ", ".join(f"{name} {value}" for name, value in found.items()))
    if judged.refitted is not None:
        print_line(
            f"{judged.layers} layers were fitted anew: {judged.left:.1%} of the error that the cut made in them is left"
            if judged.layers
            else "no layer could be fitted anew"
        )


def say(text: str) -> None:
    """Print a sentence about what is being done on stderr; on a terminal lines end between words."""
    where = console(PROGRESS)
    where.print(shown(text), soft_wrap=not where.is_terminal)


def print_notes(notes: Iterable[str]) -> None:
    """Print what is strange about a model on stderr, a line for each."""
    for note in notes:
        console(PROGRESS).print(shown(f"note: the model has {note}"))


def print_verdict(verdict: Verdict) -> None:
    """Print the verdict in a line, where it holds in another, and one more for all that a reader must know."""
    for line in _verdict_lines(verdict):
        print_line(line)


def print_inspection(report: Inspected, *, dimensions: bool = True) -> None:
    """Print dimensions, what is frozen and why, the ceiling, quantized weights, and channel permutations that stay.

    dimensions: False leaves out what is said of single ones.
    """
    print_notes(report.notes)
    if dimensions:
        shown = report.dimensions[:MOST_ROWS]
        _print_dimensions([(d.name, d.size, len(d.uses), _state(d), d.prunable) for d in shown])
        if more := len(report.dimensions) - len(shown):
            print_line(f"and {more:,} dimensions more: --json lists all of them")
    share = report.prunable_params / max(report.params, 1)
    most = report.removable_params / max(report.params, 1)
    lanes = sum(d.size for d in report.dimensions if d.prunable)
    print_line(
        f"{report.params:,} parameters, {report.macs:,} MACs{_at(report.macs_at)}. {lanes:,} channels in "
        f"{sum(d.prunable for d in report.dimensions)} of {len(report.dimensions)} dimensions are prunable; "
        f"{share:.1%} of the parameters lie in them, {most:.1%} can go at most."
    )
    if quantized := report.quantized:
        others = f" and {len(quantized) - 1} more" if len(quantized) > 1 else ""
        print_line(
            f"'{quantized[0]}'{others}: quantized, so the channels that belong to it stay; prune the float model "
            "first, then quantize the compact one"
        )
    for each in report.permutations if dimensions else ():
        print_line(f"a permutation of {each.size} channels stays as a Gather at '{each.node}': {each.reason}")


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


def _state(dimension: InspectedDimension) -> str:
    """Return whether a dimension is prunable, with constraints, or with what keeps it."""
    note = "; ".join(dimension.constraints[1:]) if dimension.prunable else str(dimension.reason)
    if chain := dimension.chain:
        note += " (through " + " <- ".join(chain) + ")"
    if not dimension.prunable:
        return f"no: {note}"
    return f"yes, {note}" if note else "yes"


Row = tuple[str, str, str, str]
"""What is compared, in the full model, in the compact one, and what is left of it."""


def _change_rows(summary: Summary) -> list[Row]:
    from onnx_oto.runtime.timing import Latencies

    rows: list[Row] = [
        ("parameters", *_figures(summary.params, "")),
        (f"MACs{_at(summary.macs_at)}", *_figures(summary.macs, "")),
        ("file size", *_figures(summary.size, " bytes")),
    ]
    if isinstance(latency := summary.latency, Latencies):
        rows.append(("latency", latency.full.text, latency.compact.text, _times(latency)))
    return rows


def _print_latency_notes(summary: Summary) -> None:
    """Print what latency was measured in, at which sizes where those of MACs are others, or why not; warnings too."""
    from onnx_oto.runtime.timing import Untimed

    latency = summary.latency
    if isinstance(latency, Untimed):
        print_line(f"latency: not measured: {latency.reason}")
    elif latency is not None:
        others = any(summary.macs_at.get(name) != size for name, size in latency.at.items())
        print_line(f"latency in {_where(latency)}" + (f", at {_listed(latency.at)}" if others else ""))
    for warning in summary.warnings:
        console(PROGRESS).print(shown(f"warning: {warning}"))


def print_table(table: Table) -> bool:
    """Print a table where it fits, and say whether it does."""
    fits = out.measure(table, options=out.options.update(max_width=10**6)).maximum <= out.width
    if fits:
        out.print(table)
    return fits


def _print_changes(rows: list[Row], original: Mapping[str, str] | None = None) -> None:
    """Print a table, whose first column is folded where it must be, or lines where even that does not fit.

    original: what the model had as it was brought, by the names of rows; that is a column of its own.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for name in (*(("original",) if original is not None else ()), "full", "compact", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for first, *rest in rows:
        add_row(table, first, *([] if original is None else [original.get(first, "")]), *rest)
    unlimited = out.options.update(max_width=10**6)
    longest = max(len(shown(name)) for name, *_ in rows)
    figures = out.measure(table, options=unlimited).maximum - longest
    if figures + min(longest, LEAST_NAME) <= out.width:
        out.print(table)
        return
    for name, full, compact, kept in rows:
        before = f"{original[name]} as it was brought, " if original and name in original else ""
        print_line(f"{name}: {before}{full} -> {compact}" + (f" ({kept})" if kept else ""))


def _figures(change: Change, unit: str) -> tuple[str, str, str]:
    return f"{change.before:,}{unit}", f"{change.after:,}{unit}", f"{change.kept:.1%}"


def _at(sizes: Mapping[str, int]) -> str:
    """Return the open sizes that something was counted at, "" if there are none."""
    return f" (at {_listed(sizes)})" if sizes else ""


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())


def _where(latency: Latencies) -> str:
    """Return what latency was measured in."""
    threads = f"{latency.threads} thread" + "s" * (latency.threads != 1)
    batch = "" if latency.batch is None else f", batch {latency.batch}"
    return f"{latency.runtime}, {threads}{batch}"


def _times(latency: Latencies) -> str:
    full, small = latency.full.median, latency.compact.median
    if latency.is_faster:
        return f"{full / small:.2f}x faster"
    if latency.is_slower:
        return f"{small / full:.2f}x slower"
    return "about the same" if 1 / ALIKE <= small / full <= ALIKE else "within the noise"


def _verdict_lines(verdict: Verdict) -> Iterator[str]:
    from onnx_oto.runtime.comparing import size_text

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
        how = f", in {verdict.pieces} pieces one after the other" if verdict.pieces else ""
        yield f"  in {verdict.runtime}{wide}{how}{at}"
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
    from onnx_oto.runtime.comparing import size_text

    found = [size_text(sizes) for sizes in verdict.sizes]
    rest = f" and {len(found) - MOST_SIZES} more" if len(found) > MOST_SIZES else ""
    skipped = f" ({verdict.skipped} skipped: the full model does not run there)" if verdict.skipped else ""
    return "; ".join(found[:MOST_SIZES]) + rest + skipped
