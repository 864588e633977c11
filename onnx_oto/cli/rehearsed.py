"""What the user sees of --dry-run: what would go, the widths that stay, how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from onnx_oto.cli.screen import MOST_ROWS, add_row, print_line, print_notes, print_table, say
from onnx_oto.cli.streams import PROGRESS
from onnx_oto.cli.text import lasting

if TYPE_CHECKING:
    from onnx_oto.pipeline.dry_run import Rehearsal
    from onnx_oto.pipeline.prune import Planned

NOTHING_WRITTEN = "nothing was written: leave --dry-run out"


def print_planned(found: Planned) -> None:
    """Print what `prune` would do."""
    print_notes(found.notes)
    for sentence in found.plan.sentences():
        print_line(sentence)
    _print_widths(found.widths)
    for warning in found.plan.warnings():
        say(f"warning: {warning}")
    print_line(NOTHING_WRITTEN)


def print_rehearsal(found: Rehearsal) -> None:
    """Print what `train` would do, and how long it takes."""
    options = found.options
    if found.plan is not None:
        if not PROGRESS.isatty():  # else a person has just read it
            for sentence in found.plan.sentences():
                print_line(sentence)
        if found.is_drawn and found.widths and options.scope == "global":
            print_line("training decides what goes where; drawn at random it would be:")
        _print_widths(found.widths)
    print_line(
        f"{options.epochs} epochs, {found.steps:,} steps of {found.samples:,} samples, optimizer {options.optimizer}, "
        f"learning rate {options.learning_rate:g}, {found.shards} session{'s' * (found.shards != 1)}"
    )
    print_line(
        f"a step takes {_duration(found.step)} ({found.rate:,.0f} samples/s, median of {found.tried} that were tried), "
        f"an evaluation {_duration(found.evaluation)}"
    )
    print_line(f"estimated time: about {lasting(found.seconds)}; {NOTHING_WRITTEN}")


def _print_widths(widths: Mapping[str, tuple[int, int]]) -> None:
    if not widths:
        return
    rows = list(widths.items())[:MOST_ROWS]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("dimension", overflow="fold")
    for name in ("size", "stays"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, (before, after) in rows:
        add_row(table, name, f"{before:,}", f"{after:,}")
    if not print_table(table):
        for name, (before, after) in rows:
            print_line(f"{name}: {before:,} -> {after:,}")
    if more := len(widths) - len(rows):
        print_line(f"and {more:,} dimensions more: --json lists all of them")


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
