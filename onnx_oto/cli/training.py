"""Commands that train: train, demo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from onnx_oto.cli import screen
from onnx_oto.cli.models import analysis_options, feed_options, json_option, model_argument, seed_option
from onnx_oto.cli.named import one_of, texts
from onnx_oto.gradients import BACKENDS
from onnx_oto.gradients.backends import AUTO
from onnx_oto.losses import LOSSES
from onnx_oto.metrics import ALIASES, METRICS
from onnx_oto.optim import DIRECTIONS, OPTIMIZERS
from onnx_oto.pipeline import Trained, TrainOptions, demo, train
from onnx_oto.pipeline.folder import CHECKPOINT
from onnx_oto.signals import Interrupted
from onnx_oto.training import StopRequests
from onnx_oto.training.schedule import SHAPES

DEFAULTS = TrainOptions()


def _numbers(_: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter(f"'{text}' is not a list of numbers such as 0.49,0.48,0.45") from None


@click.command("train")
@model_argument
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="npz file with x_train, y_train, x_test, y_test.",
)
@click.option("--run", required=True, type=click.Path(path_type=Path), help="Folder for everything written.")
@click.option(
    "--sparsity", default=DEFAULTS.sparsity, show_default=True, help="Share of groups to drive to zero."
)
@click.option("--epochs", default=DEFAULTS.epochs, show_default=True)
@click.option("--batch", default=DEFAULTS.batch, show_default=True, help="Samples per step.")
@click.option(
    "--lr", type=float, help="Largest learning rate.  [default: 0.1 for sgd, 0.001 for adam, adamw]"
)
@click.option(
    "--optimizer", type=click.Choice(list(OPTIMIZERS)), default=DEFAULTS.optimizer, show_default=True
)
@click.option(
    "--direction", type=click.Choice(list(DIRECTIONS)), default=DEFAULTS.direction, show_default=True
)
@click.option("--weight-decay", default=DEFAULTS.weight_decay, show_default=True)
@click.option("--schedule", type=click.Choice(list(SHAPES)), default=DEFAULTS.schedule, show_default=True)
@click.option(
    "--warm-up", default=DEFAULTS.warm_up, show_default=True, help="Share of steps in which lr rises."
)
@click.option(
    "--loss",
    callback=one_of(LOSSES),
    metavar=f"[{'|'.join(LOSSES)}]",
    default=DEFAULTS.loss,
    show_default=True,
    help=texts(LOSSES),
)
@click.option(
    "--ignore-label", type=int, help="Label that counts for nothing, in loss and metrics.  [default: -100]"
)
@click.option(
    "--metric",
    "metrics",
    metavar="NAME",
    callback=one_of((*METRICS, *ALIASES)),
    multiple=True,
    help=f"What is reported of the test data, repeatable.  [default: the loss's own]  {texts(METRICS)}",
)
@click.option("--model-output", "output", help="Output that the loss reads.  [default: the first]")
@click.option(
    "--scope",
    type=click.Choice(["global", "dimension"]),
    default=DEFAULTS.scope,
    show_default=True,
    help="Rank groups over the whole model, or take the same share of every dimension (fewer MACs, faster models).",
)
@click.option(
    "--min-keep",
    default=DEFAULTS.min_keep,
    show_default=True,
    help="Share every dimension keeps (scope global).",
)
@click.option("--round-to", default=1, show_default=True, help="Keep a multiple of this in every dimension.")
@analysis_options
@feed_options
@click.option("--flip", is_flag=True, help="Augment: mirror half of the images.")
@click.option("--crop", default=0, help="Augment: shift images by up to this many pixels.")
@click.option(
    "--mean", callback=_numbers, help="Subtract, one number or one per channel, after scaling to [0, 1]."
)
@click.option("--std", callback=_numbers, help="Divide by, the same way.")
@click.option(
    "--fixed-statistics",
    is_flag=True,
    help="BatchNorm trains with the running statistics it came with (for small batches).",
)
@seed_option
@click.option("--shards", default=0, help="Sessions side by side.  [default: one per core]")
@click.option(
    "--backend",
    type=click.Choice([AUTO, *BACKENDS]),
    default=DEFAULTS.backend,
    show_default=True,
    help="What makes gradients.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in the folder.")
@json_option
def train_command(model: Path, data: Path, run: Path, as_json: bool, **settings: Any) -> None:
    """Train once, with groups driven to exactly zero; compact; verify; measure.

    Writes trained.onnx, compact.onnx, metrics.jsonl, result.json and a checkpoint to the folder of --run.
    """
    options = _options(settings)
    _show(lambda **seams: train(model, data, run, options, **seams), as_json)


@click.command("demo")
@click.option(
    "--run", type=click.Path(path_type=Path), help="Keep everything in this folder.  [default: runs/demo]"
)
@click.option("--epochs", type=int, help="Epochs to train.")
@seed_option
@json_option
def demo_command(run: Path | None, epochs: int | None, seed: int, as_json: bool) -> None:
    """The main job on embedded data: train a small CNN on Fashion-MNIST, compact, verify, measure."""
    _show(lambda **seams: demo(run or Path("runs/demo"), epochs=epochs, seed=seed, **seams), as_json)


def _options(settings: dict[str, Any]) -> TrainOptions:
    if settings["lr"] is None:
        settings["lr"] = DEFAULTS.lr if settings["direction"] == "sgd" else 1e-3
    return TrainOptions(**settings)


def _show(job: Callable[..., Trained], as_json: bool) -> None:
    stop = StopRequests()
    with screen.Progress() as progress:
        result = job(observer=progress, say=progress.say, stop=stop, listening=stop)
    if stop.signal is not None:
        raise Interrupted(
            stop.signal, f"interrupted: everything up to here is in '{result.run / CHECKPOINT}'"
        )
    if as_json:
        screen.print_json(result.as_json())
    elif result.gain is not None:
        screen.print_trained(result, result.gain)
