"""Commands that need no training: inspect, prune, compact, verify."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onnx_oto.cli import screen, units
from onnx_oto.pipeline import FeedOptions, PruneOptions, compact_zeros, open_model, prune, verify_files
from onnx_oto.pipeline.inspecting import inspection
from onnx_oto.runtime.limits import LEAST_MEMORY, LEAST_SECONDS
from onnx_oto.zigs import SCORES, AnalysisOptions

model_argument = click.argument("model", type=click.Path(path_type=Path))
output_option = click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Where to write the compact model."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def analysis_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `onnx_oto.zigs.AnalysisOptions`, under the names of its fields."""
    keep = click.option(
        "--keep",
        multiple=True,
        metavar="PATTERN",
        help="Keep every channel of parameters, nodes or tensors whose name matches (shell wildcards, repeatable).",
    )
    norms = click.option(
        "--fixed-norms",
        is_flag=True,
        help="Keep axes that a normalisation or a mean runs over (the residual width of a transformer).",
    )
    heads = click.option(
        "--head-dims",
        is_flag=True,
        help="Attention keeps its heads and loses positions inside them, the same number in each.",
    )
    return keep(norms(heads(command)))


def feed_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `onnx_oto.pipeline.FeedOptions`, under the names of its fields."""
    inputs = click.option(
        "--inputs",
        type=click.Path(path_type=Path),
        help="Verify on the arrays of this npz file, one per input name, instead of random ones. The first axis counts "
        "samples; where the model fixes it, a multiple of its size holds several feeds.",
    )
    memory = click.option(
        "--limit-memory",
        callback=units.memory,
        metavar="SIZE",
        help=f"Memory that running the model may take, such as 8GB.  [default: {LEAST_MEMORY / 1e9:.1f} GB, and more "
        "for large weights and inputs]",
    )
    seconds = click.option(
        "--limit-time",
        type=click.FloatRange(min=0, min_open=True),
        metavar="SECONDS",
        help=f"Time that one run of the model may take.  [default: {LEAST_SECONDS:.0f}, and more for large weights and "
        "inputs]",
    )
    return inputs(shape_option(memory(seconds(command))))


shape_option = click.option(
    "--input-shape",
    multiple=True,
    metavar="NAME:d0,d1,...",
    help="Shape of an input to begin verification with, where small sizes will not do (repeatable).",
)
seed_option = click.option("--seed", default=0, show_default=True, help="Seed of everything random.")


@click.command("inspect")
@model_argument
@analysis_options
@click.option(
    "--why",
    metavar="PATTERN",
    help="Only dimensions whose names or parameters match, with the chain of nodes that froze them.",
)
@json_option
def inspect_command(model: Path, why: str | None, as_json: bool, **options: Any) -> None:
    """Show what can be pruned, what is frozen and why. Weights stored outside the file are not read."""
    report = inspection(open_model(model, AnalysisOptions(**options), weights=False), why)
    if as_json:
        screen.print_json(report)
    else:
        screen.print_inspection(report)


@click.command("prune")
@model_argument
@output_option
@click.option(
    "--sparsity", default=0.5, show_default=True, help="Share of channels to remove in every dimension."
)
@click.option("--by", type=click.Choice(list(SCORES)), default="magnitude", show_default=True, help="Score.")
@click.option("--global", "global_", is_flag=True, help="Rank over all dimensions instead.")
@click.option("--round-to", default=1, show_default=True, help="Keep a multiple of this in every dimension.")
@analysis_options
@feed_options
@seed_option
@click.option(
    "--save-zeroed",
    type=click.Path(path_type=Path),
    help="Also write the full model with the dropped groups zeroed: it computes what the compact one does.",
)
@click.option(
    "--kept",
    type=click.Path(path_type=Path),
    help="Also write a JSON file of the indices kept per parameter and axis, to slice the same model elsewhere.",
)
@json_option
def prune_command(model: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Remove channels by their weights, without training; verify; write the compact model."""
    screen.print_pruned(prune(model, output, PruneOptions(**options)), output, as_json)


@click.command("compact")
@model_argument
@output_option
@analysis_options
@feed_options
@json_option
def compact_command(model: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Remove the channels whose groups are exactly zero already."""
    screen.print_pruned(compact_zeros(model, output, FeedOptions(**options)), output, as_json)


@click.command("verify")
@click.argument("full", type=click.Path(path_type=Path))
@click.argument("compact", type=click.Path(path_type=Path))
@feed_options
@seed_option
@json_option
def verify_command(full: Path, compact: Path, as_json: bool, **options: Any) -> None:
    """Compare the outputs of two models. Exit code 1 when they differ, 4 when nothing could be proved."""
    verdict = verify_files(full, compact, **options)
    if as_json:
        screen.print_json(verdict.as_json())
    else:
        screen.print_verdict(verdict)
    if not verdict.passed:
        raise click.exceptions.Exit(1)
