"""Commands that need no training: inspect, bench, prune, compact, verify.

What they do is imported when they do it: their options are read, refused and completed without.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnx_oto.cli.objects import print_json
from onnx_oto.cli.verb import Place, verb
from onnx_oto.pipeline.options import (
    BenchOptions,
    CompactOptions,
    InspectOptions,
    PruneOptions,
    VerifyOptions,
)

if TYPE_CHECKING:
    from onnx_oto.pipeline.opening import Opened
    from onnx_oto.pipeline.prune import Pruned

MODEL = Place("model")
OUTPUT = Place("output", "Where to write the compact model.", short="-o")


@verb(
    "inspect",
    InspectOptions,
    MODEL,
    example=(
        "onnx-oto inspect model.onnx",
        "onnx-oto inspect model.onnx --why 'layer4.*'",
        "onnx-oto inspect model.onnx --curve --data data.npz",
        "onnx-oto inspect model.onnx --graph graph.html",
    ),
)
def inspect_command(options: InspectOptions, *, as_json: bool, model: Path) -> None:
    """Show what can be pruned, what is frozen and why. Weights stored outside the file are read for --curve only."""
    from onnx_oto.pipeline.inspecting import inspect

    seen: list[Opened] = []
    if options.data is None:
        report = inspect(model, options, look=seen.append)
    else:
        from onnx_oto.cli.screen import say

        report = inspect(model, options, say=say, look=seen.append)
    if as_json:
        if options.graph is not None:  # before the one object that is printed: it is the result, or the error
            _draw(seen[0], options.graph)
        print_json(report.as_json())
    else:
        from onnx_oto.cli.screen import print_inspection

        print_inspection(report, dimensions=report.curve is None or options.why is not None)
        if report.curve is not None:
            from onnx_oto.cli.curve import print_curve

            print_curve(report)
        if options.graph is not None:
            _draw(seen[0], options.graph)


def _draw(opened: Opened, place: str | PathLike[str]) -> None:
    """Draw the graph, and say where it is."""
    from onnx_oto.cli.screen import say
    from onnx_oto.reporting.alone import draw_graph

    picture = draw_graph(opened, place)
    listed = f", listed and not drawn: {picture.why}" if picture.placed is None else ""
    say(f"graph: {place} ({picture.nodes:,} operators in {len(picture.tiles)} boxes{listed})")


@verb(
    "prune",
    PruneOptions,
    MODEL,
    OUTPUT,
    example=(
        "onnx-oto prune model.onnx -o compact.onnx --macs 0.5",
        "onnx-oto prune model.onnx -o compact.onnx --sparsity 0.3 --data photos/",
        "onnx-oto prune model.onnx -o compact.onnx --latency 3.5ms --dry-run",
    ),
)
def prune_command(options: PruneOptions, *, as_json: bool, model: Path, output: Path) -> None:
    """Remove channels by their weights, or by data, without training; verify; write the compact model."""
    from onnx_oto.cli.screen import announce, say
    from onnx_oto.pipeline.prune import planned, prune

    if options.dry_run:
        from onnx_oto.cli.rehearsed import print_planned

        found = planned(model, output, options, say=say)
        if as_json:
            print_json(found.as_json())
        else:
            print_planned(found)
        return
    _print_pruned(prune(model, output, options, say=say, announce=announce), output, as_json)


@verb(
    "bench",
    BenchOptions,
    Place("model", many=True),
    example=(
        "onnx-oto bench model.onnx compact.onnx --threads 1",
        "onnx-oto bench model.onnx --python /srv/venv/bin/python --table model.latency.json",
    ),
)
def bench_command(options: BenchOptions, *, as_json: bool, model: tuple[Path, ...]) -> None:
    """Measure how long models take, in turn, and why one is not as much faster as it is smaller.

    The others are compared with the first one. With --table one model is measured at other widths, too.
    """
    from onnx_oto.cli.screen import say
    from onnx_oto.pipeline.benching import bench

    result = bench(model, options, say=say)
    if as_json:
        print_json(result.as_json())
        return
    from onnx_oto.cli.benched import print_benched

    print_benched(result)


@verb(
    "compact",
    CompactOptions,
    MODEL,
    OUTPUT,
    example="onnx-oto compact runs/first/trained.onnx -o compact.onnx",
)
def compact_command(options: CompactOptions, *, as_json: bool, model: Path, output: Path) -> None:
    """Remove the channels whose groups are exactly zero already."""
    from onnx_oto.pipeline.prune import compact_zeros

    _print_pruned(compact_zeros(model, output, options), output, as_json)


@verb(
    "verify",
    VerifyOptions,
    Place("full"),
    Place("compact"),
    example="onnx-oto verify runs/first/trained.onnx runs/first/compact.onnx",
)
def verify_command(options: VerifyOptions, *, as_json: bool, full: Path, compact: Path) -> None:
    """Compare the outputs of two models. Exit code 1 when they differ, 4 when nothing could be proved."""
    from onnx_oto.pipeline.verifying import verify_files

    verdict = verify_files(full, compact, options)
    if as_json:
        print_json(verdict.as_json())
    else:
        from onnx_oto.cli.screen import print_verdict

        print_verdict(verdict)
    if not verdict.passed:
        raise click.exceptions.Exit(1)


def _print_pruned(result: Pruned, output: Path, as_json: bool) -> None:
    if as_json:
        print_json(result.as_json())
        return
    from onnx_oto.cli.screen import print_pruned

    print_pruned(result, output)
    if result.int8 is not None:
        from onnx_oto.cli.int8 import print_int8

        print_int8(result.int8)
