"""What the user sees of `inspect --curve`: a table, or lines where that does not fit, and what ends it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from onnx_oto.cli.screen import NARROW, add_row, out, print_line
from onnx_oto.cli.text import shown
from onnx_oto.zigs.budgets import shown as amount

if TYPE_CHECKING:
    from onnx_oto.pipeline.curve import Point
    from onnx_oto.pipeline.inspecting import Inspected
    from onnx_oto.pipeline.summary import Change


def print_curve(report: Inspected) -> None:
    """Print a row for every share of groups, at which widths, what keeps more from going, and the end."""
    points, end = report.curve, report.end
    assert points is not None
    assert end is not None
    _print_points(points)
    for text in (*_grouped(points, _widths), *_grouped(points, lambda point: point.why)):
        print_line(text)
    print_line(f"at most {end.achieved:.1%} of the groups can go ({end.removed:,}): {'; '.join(end.reasons)}")


def _print_points(points: Sequence[Point]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    rows = [list(_cells(point)) for point in points]
    for name, _ in rows[0]:
        table.add_column(shown(name), justify="right", no_wrap=True)
    for row in rows:
        add_row(table, *(cell for _, cell in row))
    unlimited = out.options.update(max_width=10**6)
    if out.width >= NARROW and out.measure(table, options=unlimited).maximum <= out.width:
        out.print(table)
        return
    for row in rows:
        (_, sparsity), (_, groups), *others = ((name, " ".join(cell.split())) for name, cell in row)
        print_line(f"{sparsity}: groups {groups}")
        print_line("  " + ", ".join(f"{name} {cell}" for name, cell in others))


def _cells(point: Point) -> Iterator[tuple[str, str]]:
    """Yield the names of columns, and what a point has there."""
    yield "share", f"{point.sparsity:.1f}"
    yield "groups", f"{point.removed:,} {point.achieved:>6.1%}"
    for name, key, change in (
        ("parameters", "params", point.params),
        ("MACs", "macs", point.macs),
        ("bytes", "bytes", point.size),
    ):
        yield name, _left(key, change)
    if point.milliseconds is not None:
        full, left = point.milliseconds
        yield "est. ms", f"{amount('latency', left)} {_percent(left / full if full else 1.0)}"
    if point.judgement is not None:
        for name, value in point.judgement.figures().items():
            yield name, f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"


def _left(name: str, change: Change) -> str:
    return f"{amount(name, change.after)} {_percent(change.kept)}"


def _percent(share: float) -> str:
    return f"{share:>4.0%}" if share >= 0.0995 else f"{share:>4.1%}"


def _widths(point: Point) -> str | None:
    block = point.round_to
    return f"widths keep multiples of {block}" if point.removed and block > 1 else None


def _grouped(points: Sequence[Point], text: Callable[[Point], str | None]) -> Iterator[str]:
    """Yield what is said of points, once for those in a row of which the same is said."""
    for found, group in itertools.groupby(points, text):
        if found is not None:
            shares = [f"{point.sparsity:.1f}" for point in group]
            yield f"{shares[0]}{f' to {shares[-1]}' if len(shares) > 1 else ''}: {found}"
