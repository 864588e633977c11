"""What the user sees of `bench`: models beside each other, why one is faster, where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from onnx_oto.cli.screen import add_row, print_line, print_table, say
from onnx_oto.cli.text import shown
from onnx_oto.zigs.budgets import shown as amount

if TYPE_CHECKING:
    from onnx_oto.pipeline.benching import Benched

MOST_OPS = 6


def print_benched(result: Benched) -> None:
    """Print how long models take, where that time goes, and what a table promises."""
    host = result.host
    batch = "" if result.batch is None else f", batch {result.batch}"
    provider = f" ({result.weight.provider})" if result.weight is not None else ""
    threads = f"{result.threads} thread" + "s" * (result.threads != 1)
    turns = f"{result.timing.runs:,} runs" + (" of each, in turn" if result.compared else "")
    print_line(f"{host.runtime} {host.version}{provider}, {threads}{batch}, {turns}, on {host.processor}")
    _print_models(result)
    for each in result.compared:
        for sentence in each.gap.sentences():
            print_line(f"{each.benched.model}: {sentence}")
    _print_operators([result, *(each.benched for each in result.compared)])
    _print_table_of_widths(result)
    for warning in result.warnings:
        say(f"warning: {warning}")


def _print_models(result: Benched) -> None:
    every = [result, *(each.benched for each in result.compared)]
    verdicts = ["", *(each.verdict for each in result.compared)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    heads = ["median", "half of the runs", "MACs", "memory", *(["speed"] if result.compared else [])]
    for name in heads:
        table.add_column(name, justify="right", no_wrap=True)
    rows = [[each.model, *_figures(each), verdict] for each, verdict in zip(every, verdicts, strict=True)]
    for row in rows:
        add_row(table, *row[: 1 + len(heads)])
    if print_table(table):
        return
    for row in rows:
        told = ", ".join(f"{name} {value}" for name, value in zip(heads, row[1:], strict=False) if value)
        print_line(f"{row[0]}: {told}")


def _figures(each: Benched) -> list[str]:
    low, high = each.timing.quartiles
    weight = each.weight
    memory = "-" if weight is None or weight.memory is None else amount("bytes", weight.memory)
    return [
        f"{each.timing.median:.4g} ms",
        f"{low:.4g} to {high:.4g}",
        amount("macs", each.macs),
        memory,
    ]


def _print_operators(every: Sequence[Benched]) -> None:
    """Print the milliseconds of the operators that take most of them, in all models."""
    ops = list(dict.fromkeys(op for each in every for op in list(each.by_op)[:MOST_OPS]))
    if not ops:
        return
    ops.sort(key=lambda op: -max(each.by_op.get(op, 0.0) for each in every))
    if len(every) == 1:
        total = sum(every[0].by_op.values()) or 1.0
        for op in ops:
            ms = every[0].by_op[op]
            print_line(f"  {op}: {ms:.4g} ms ({ms / total:.1%})")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ms in", overflow="fold")
    for each in every:
        table.add_column(shown(each.model), justify="right", overflow="fold")
    for op in ops:
        add_row(table, op, *(f"{each.by_op.get(op, 0.0):.4g}" for each in every))
    if not print_table(table):
        for op in ops:
            print_line(f"  {op}: " + ", ".join(f"{each.by_op.get(op, 0.0):.4g}" for each in every) + " ms")


def _print_table_of_widths(result: Benched) -> None:
    table = result.table
    if table is None:
        return
    whole = table.sum_ms / table.measured_ms
    print_line(
        f"table {result.path}: {len(table.rows)} operators at {len(table.times)} widths; they add up to "
        f"{whole:.1%} of the whole{'' if table.is_whole else ', MORE THAN 15 % OFF'}; predictions are within "
        f"{table.error:.1%} of what was measured"
    )
    stairs = table.staircase
    if stairs.block > 1:
        cliff = f"; just below multiples of {stairs.alignment} a model takes {table.cliff:.2f} times as long"
        print_line(
            f"  channels are computed in blocks of {stairs.block}{cliff if stairs.alignment > 1 else ''}"
        )
