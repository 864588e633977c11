"""What the user sees of an int8 model, beside the float one that it was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from onnx_oto.cli.screen import add_row, out, print_line, say
from onnx_oto.runtime.timing import Untimed

if TYPE_CHECKING:
    from onnx_oto.pipeline.int8.result import Int8

MOST_LAYERS = 6
"""Layers in float that are named."""


def print_int8(result: Int8) -> None:
    """Print the float model against the int8 one: a table, or lines on narrow screens; and where the file is."""
    rows = result.rows()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for name in ("compact", "int8", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        add_row(table, *row)
    if out.measure(table, options=out.options.update(max_width=10**6)).maximum <= out.width:
        out.print(table)
    else:
        for name, before, after, kept in rows:
            print_line(f"{name}: {before} -> {after}" + (f" ({kept})" if kept else ""))
    print_line(result.told())
    if isinstance(result.latency, Untimed):
        print_line(f"int8 latency: not measured: {result.latency.reason}")
    if result.kept:
        more = f" and {len(result.kept) - MOST_LAYERS} more" if len(result.kept) > MOST_LAYERS else ""
        print_line(f"in float, as they lose most: {', '.join(result.kept[:MOST_LAYERS])}{more}")
    for warning in result.warnings():
        say(f"warning: {warning}")
    print_line(f"int8 model: {result.path}   (for {result.target})")
