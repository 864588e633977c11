"""`train`: train once, compact, verify, measure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_oto import data
from onnx_oto.errors import DivergedError
from onnx_oto.gradients import GradientSession
from onnx_oto.optim import Optimizer
from onnx_oto.pipeline.finishing import finish
from onnx_oto.pipeline.folder import (
    CHECKPOINT,
    FILES,
    LAST_GOOD,
    MANIFEST,
    METRICS,
    MODELS,
    RESULT,
    TABLE,
    UNPACKED,
    RunFolder,
    claim,
    write_json,
)
from onnx_oto.pipeline.latency.table import write_table
from onnx_oto.pipeline.optimizing import make_optimizer
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.places import Output, files_read, require_apart, with_table
from onnx_oto.pipeline.preparing import Ready, Say, make_ready
from onnx_oto.pipeline.recording import Record
from onnx_oto.pipeline.rescue import Rescue
from onnx_oto.pipeline.result import Trained
from onnx_oto.runtime.limits import UNLIMITED, limited
from onnx_oto.training import (
    ClipNorm,
    History,
    MetricsFile,
    Observer,
    Observers,
    Recipe,
    Schedule,
    save_checkpoint,
    total_steps,
)
from onnx_oto.training import train as run_loop
from onnx_oto.training.checkpoint import Position
from onnx_oto.training.evaluate import require_measurable


def train(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    run: str | os.PathLike[str],
    options: TrainOptions | None = None,
    *,
    observer: Observer | None = None,
    say: Say = lambda text: None,
    stop: Callable[[], bool] | None = None,
    listening: AbstractContextManager[object] | None = None,
    record: Record | None = None,
) -> Trained:
    """Train the model at `path` on the npz file `source` and write everything to the folder `run`.

    Everything that can be refused is refused before the first step: a model that cannot be trained or
    compacted (a rehearsal on random groups is verified), data that do not fit, a folder that holds something
    that this run reads, or did not come from an earlier one. `say` gets sentences about what
    is done, `observer` the events of training. `stop` is asked between two steps and after the last one whether to
    leave it at a checkpoint; `listening` is entered while it is asked. Files: trained.onnx, compact.onnx,
    metrics.jsonl, checkpoint.npz, result.json; last-good.npz when training diverges; run.toml, the settings
    (`record`: those of another verb that this run is the work of). Whatever fails after the last step, trained.onnx is
    written, and the error says so.
    """
    options = (options or TrainOptions()).resolved()
    record = record or Record("train", options, {"model": path, "data": source})
    begin = time.perf_counter()
    writes = [Output(Path(run) / name, model=name in MODELS) for name in (*FILES, MANIFEST)]
    reads = files_read(path, options, source)
    if options.tokenizer is not None:
        reads[Path(options.tokenizer)] = "the tokenizer"
    require_apart(reads, writes, "give another folder")
    others = [each for each in writes if Path(each.path).name != TABLE]  # the table of an earlier run stays
    require_apart(*with_table(reads, others, options.table), "give another table")
    with claim(run, verb=record.verb, overwrite=options.overwrite) as folder:
        ready = make_ready(path, source, options, say, cache=folder.path / UNPACKED)
        rescue = Rescue(folder, ready.opened.model, options, say)
        with rescue:
            history, zeroed = _fit(
                ready, options, folder, rescue, observer, stop, listening or nullcontext(), record
            )
            target = options.share if options.prunes else 0.0
            groups = max(sum(d.size for d in ready.opened.analysis.prunable), 1)
            if history.stopped or (stop is not None and stop()):
                history = replace(history, stopped=True)
                seconds = time.perf_counter() - begin
                return Trained(folder.path, target, zeroed / groups, seconds, history, chosen=zeroed)
            say("compacting, verifying, measuring")
            for name in MODELS:
                folder.place(name)
            with limited(UNLIMITED):  # the model has proved itself, and nothing that was trained may be lost
                removed, gain = finish(
                    ready.opened.model,
                    ready.opened.origins,
                    rescue.weights,
                    ready.dataset,
                    options,
                    folder.path,
                    ready.preparation.loss,
                    ready.serving,
                    ready.feeding,
                    ready.goal,
                )
            seconds = time.perf_counter() - begin
            result = Trained(
                folder.path, target, removed / groups, seconds, history, gain, zeroed, ready.goal
            )
            write_json(folder.place(RESULT), {**result.as_json(), "options": options.as_json()})
            return result


def _fit(
    ready: Ready,
    options: TrainOptions,
    folder: RunFolder,
    rescue: Rescue,
    observer: Observer | None,
    stop: Callable[[], bool] | None,
    listening: AbstractContextManager[object],
    record: Record,
) -> tuple[History, int]:
    """Return what happened and how many groups are zero; the weights, once the last step is taken, are in `rescue`."""
    with limited(options.limits):
        session = ready.preparation.build()
    try:
        optimizer = make_optimizer(
            ready.opened.analysis, session, options, _steps(ready, options), ready.goal
        )
        recipe = _recipe(ready, options)
        require_measurable(
            session.predict, ready.dataset.test, recipe.loss, recipe.metrics, providers=recipe.providers
        )
        folder.begin()
        settled: dict[str, Any] = {"shards": session.shards, "backend": ready.preparation.backend.name}
        if ready.goal.table is not None:  # what was measured is stored: a repeated run reads it
            write_table(ready.goal.table, folder.place(TABLE))
            settled["table"] = folder.place(TABLE)
        record.write(folder, **settled)
        with MetricsFile(folder.place(METRICS)) as metrics:
            watching = Observers((rescue, metrics, observer) if observer else (rescue, metrics))
            with listening:
                history = _run(session, optimizer, ready.dataset, recipe, options, folder, watching, stop)
        return history, optimizer.zeroed
    finally:
        rescue.take(session)
        session.close()


def _steps(ready: Ready, options: TrainOptions) -> int:
    return total_steps(
        len(ready.dataset.train), ready.preparation.spec.batch, options.epochs, options.accumulate
    )


def _recipe(ready: Ready, options: TrainOptions) -> Recipe:
    steps = _steps(ready, options)
    warm_up = min(round(steps * options.warm_up), steps)
    schedule = Schedule(options.schedule, options.learning_rate, steps, warm_up=warm_up)
    return Recipe(
        options.epochs,
        ready.preparation.spec.batch,
        schedule,
        ready.preparation.loss,
        seed=options.seed,
        metrics=tuple(options.metric),
        accumulate=options.accumulate,
        transforms=() if options.clip_norm is None else (ClipNorm(options.clip_norm),),
        skip_bad_steps=options.skip_bad_steps,
    )


def _run(
    session: GradientSession,
    optimizer: Optimizer,
    dataset: data.Dataset,
    recipe: Recipe,
    options: TrainOptions,
    folder: RunFolder,
    observer: Observer,
    stop: Callable[[], bool] | None,
) -> History:
    """Train; when it diverges, the last good state is written before the error goes on."""
    try:
        return run_loop(
            session,
            optimizer,
            dataset,
            recipe,
            observer=observer,
            stop=stop,
            checkpoint=folder.place(CHECKPOINT),
            run=options.as_json(),
        )
    except DivergedError as error:
        place = folder.place(LAST_GOOD)
        save_checkpoint(place, session, optimizer, Position(), run=options.as_json())
        raise DivergedError(f"{error}; the parameters before it are in '{place}'") from None
