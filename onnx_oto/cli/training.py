"""Commands that train: train, demo, resume."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING

from onnx_oto.cli.objects import print_json
from onnx_oto.cli.ranks import CREW, Advice
from onnx_oto.cli.streams import ReaderGone
from onnx_oto.cli.verb import Place, verb
from onnx_oto.errors import UsageError
from onnx_oto.pipeline.options import DemoOptions, TrainOptions
from onnx_oto.pipeline.resume_options import ResumeOptions
from onnx_oto.settings.kinds import SOURCE
from onnx_oto.signals import Interrupted

if TYPE_CHECKING:
    from onnx_oto.pipeline.result import Trained


@verb(
    "train",
    TrainOptions,
    Place("model"),
    Place(
        "data",
        "A folder of images, or with one for each class; an npz file (x_train, y_train, x_test, y_test); a table, "
        "text, or package.module:function. Labels may be left out where the model is trained. See docs/data.md.",
        kind=SOURCE,
    ),
    Place("run", "Folder for everything written."),
    example=(
        "onnx-oto train model.onnx --data data.npz --run runs/first --sparsity 0.5 --epochs 20",
        "onnx-oto train model.onnx --data photos/ --run runs/first --macs 0.5 --dry-run",
        "onnx-oto train --config runs/first/run.toml --run runs/again",
    ),
)
def train_command(options: TrainOptions, *, as_json: bool, model: Path, data: Path, run: Path) -> None:
    """Train once, with groups driven to exactly zero; compact; verify; measure.

    Most runs need --data, --run, and --sparsity or --macs; what else was decided is said before the first step.
    Writes trained.onnx, compact.onnx, report.html, metrics.jsonl, result.json, run.toml and a checkpoint to --run.
    """
    if options.dry_run:
        if CREW.ranks is not None:
            raise UsageError("dry-run tells of one process: start it without the launcher of MPI")
        from onnx_oto.cli.rehearsed import print_rehearsal
        from onnx_oto.cli.screen import say
        from onnx_oto.pipeline.dry_run import rehearse

        found = rehearse(model, data, run, options, say=say)
        if as_json:
            print_json(found.as_json())
        else:
            print_rehearsal(found)
        return
    from onnx_oto.pipeline.train import train

    _show(lambda **seams: train(model, data, run, options, **seams), as_json, run)


@verb(
    "demo",
    DemoOptions,
    Place("run", "Keep everything in this folder.", default=Path("runs/demo")),
    example="onnx-oto demo",
)
def demo_command(options: DemoOptions, *, as_json: bool, run: Path) -> None:
    """The main job on embedded data: train a small CNN on Fashion-MNIST, compact, verify, measure."""
    from onnx_oto.pipeline.demo import demo

    _show(lambda **seams: demo(run, options, **seams), as_json, run)


@verb(
    "resume",
    ResumeOptions,
    Place("run"),
    example=("onnx-oto resume runs/first", "onnx-oto resume runs/first --lr 0.01"),
)
def resume_command(options: ResumeOptions, *, as_json: bool, run: Path) -> None:
    """Go on with a run that was left: interrupted, killed, out of disk, or diverged (with --lr).

    RUN is the folder that was --run. The result is the same, to the byte, as if the run had not been left.
    """
    from onnx_oto.pipeline.folder import RESULT, read_result
    from onnx_oto.pipeline.resume import resume

    def complete() -> None:
        if as_json:
            print_json(read_result(run) or {})
        else:
            print(f"the run is complete: its result is in '{run / RESULT}'")

    _show(lambda **seams: resume(run, options, **seams), as_json, run, complete)


def _show(
    job: Callable[..., Trained | None],
    as_json: bool,
    run: Path,
    complete: Callable[[], None] = lambda: None,
) -> None:
    """Run a job and print its result. complete: what prints the result of a run that had nothing left to do."""
    from onnx_oto.cli.progress import Progress
    from onnx_oto.cli.screen import print_line, print_trained, say
    from onnx_oto.pipeline.folder import CHECKPOINT
    from onnx_oto.reporting.writing import leave_report
    from onnx_oto.training import Observers, StopRequests

    stop = StopRequests(CREW.passed_on)
    with Progress() as progress:
        watching = Observers((progress, Advice(CREW, run)))
        result = job(observer=watching, say=progress.say, stop=stop, listening=stop, peers=CREW.peers)
    if CREW.peers.rank:  # rank 0 says what came out
        return
    if result is None:
        complete()
        return
    number = stop.signal or (SIGTERM if result.history.stopped else None)
    if number is not None:
        kept, way_on = result.run / CHECKPOINT, shlex.join(["onnx-oto", "resume", str(result.run)])
        raise Interrupted(number, f"interrupted: everything up to here is in '{kept}', go on with `{way_on}`")
    try:
        if as_json:
            print_json(result.as_json())
        elif result.gain is not None:
            print_trained(result, result.gain)
            if result.int8 is not None:
                from onnx_oto.cli.int8 import print_int8

                print_int8(result.int8)
    except ReaderGone:
        leave_report(result.run, say)
        raise
    page = leave_report(result.run, say)
    if page is not None and not as_json:
        print_line(f"report: {page}")
