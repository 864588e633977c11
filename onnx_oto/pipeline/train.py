"""`train`: train once, compact, verify, measure; and going on with a run that was left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnx_oto.errors import UsageError
from onnx_oto.gradients import GradientSession
from onnx_oto.losses import Distill
from onnx_oto.model.files.loading import stored_files
from onnx_oto.peers.seam import ALONE, Peers
from onnx_oto.pipeline.answers import forget
from onnx_oto.pipeline.beginning import before_the_first_step
from onnx_oto.pipeline.cutting_first import cut_first, is_worth_it, store
from onnx_oto.pipeline.explaining import Explanation, command_of, digests
from onnx_oto.pipeline.finishing import finish
from onnx_oto.pipeline.folder import (
    BEFORE,
    CHECKPOINT,
    COMPACT,
    FILES,
    INT8,
    LAST_GOOD,
    MANIFEST,
    METRICS,
    MODELS,
    RESULT,
    START,
    TABLE,
    UNPACKED,
    RunFolder,
    claim,
    write_json,
)
from onnx_oto.pipeline.going_on import Going, Recognition, Stamp, provenance_of, stamp
from onnx_oto.pipeline.int8.beside import failed, kept_float
from onnx_oto.pipeline.int8.of_run import int8_of_run
from onnx_oto.pipeline.latency.table import write_table
from onnx_oto.pipeline.norms import check_folded, told_bare
from onnx_oto.pipeline.optimizing import make_optimizer
from onnx_oto.pipeline.places import Output, files_read, require_apart, with_table
from onnx_oto.pipeline.preparing import make_ready, with_norms
from onnx_oto.pipeline.ready import Ready, Say
from onnx_oto.pipeline.recording import Record
from onnx_oto.pipeline.rescue import Rescue
from onnx_oto.pipeline.result import Trained
from onnx_oto.pipeline.starting import cautions, set_by_start
from onnx_oto.pipeline.teacher import scales_of
from onnx_oto.pipeline.together import held_by_first, require_alike
from onnx_oto.pipeline.train_options import AUTO, SCRATCH_OPTIMIZER, TrainOptions
from onnx_oto.runtime.limits import UNLIMITED, limited
from onnx_oto.training import (
    ClipNorm,
    History,
    Judged,
    Keeper,
    MetricsFile,
    Observer,
    Observers,
    Places,
    Position,
    Recipe,
    Schedule,
    Selection,
    total_steps,
)
from onnx_oto.training import train as run_loop
from onnx_oto.training.evaluate import require_measurable


@dataclass(frozen=True)
class Watch:
    """Who watches a run: `observer` gets the events of training, `say` sentences about what is done.

    stop: asked between two steps and after the last one whether to leave the run at a checkpoint; `listening` is
    entered while it is asked. peers: who train the same model, each with its part of every batch; only rank 0 writes.
    """

    observer: Observer | None = None
    say: Say = lambda text: None
    stop: Callable[[], bool] | None = None
    listening: AbstractContextManager[object] = field(default_factory=nullcontext)
    peers: Peers = ALONE


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
    peers: Peers = ALONE,
) -> Trained:
    """Train the model at `path` on the npz file `source` and write everything to the folder `run`.

    Everything that can be refused is refused before the first step: a model that cannot be trained or
    compacted (a rehearsal on random groups is verified), data that do not fit, a folder that holds something
    that this run reads, or did not come from an earlier one. Files: trained.onnx, compact.onnx, metrics.jsonl,
    checkpoint.npz and the one before it, result.json; last-good.npz when training diverges; run.toml, the settings
    (`record`: those of another verb that this run is the work of). Whatever fails after the last step, trained.onnx is
    written, and the error says so. For the seams see `Watch`.
    """
    options = options or TrainOptions()
    if options.dry_run:
        raise UsageError("dry-run trains nothing: call `onnx_oto.pipeline.dry_run.rehearse`, or leave it out")
    record = record or Record("train", options, {"model": path, "data": source})
    require_own_files(run, path, source, options)
    held = claim(run, verb=record.verb, overwrite=options.overwrite)
    with held_by_first(peers, held, record.verb) as folder:
        watch = Watch(observer, say, stop, listening or nullcontext(), peers)
        return carry_out(folder, path, source, options, record, watch)


def carry_out(
    folder: RunFolder,
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    options: TrainOptions,
    record: Record,
    watch: Watch,
    going: Going | None = None,
) -> Trained:
    """Do the work of a run in a folder that is claimed, see `train`. going: what it goes on from."""
    begin, peers = time.perf_counter(), watch.peers
    known, same = None, None
    if going is not None or peers.size > 1:
        known = stamp(path, source, options)
        require_alike(peers, known)
    if going is not None and known is not None:
        going.require_run(known)
        going.tell_versions(known, watch.say)
        same = Recognition(going, known)
    ready = make_ready(path, source, options, watch.say, cache=folder.path / UNPACKED, same=same, peers=peers)
    options, record = settled_by_start(ready, options, record, watch.say)
    explanation = Explanation(command_of(record.verb, record.settings), digests(path))
    stamped = stamp(path, source, options, ready.dataset, known=known)
    require_alike(peers, stamped)
    if going is not None:
        going.require_same(stamped)
    if options.cuts_first:
        ready = cut_first(ready, options, folder, watch.say, stored=going is not None, peers=peers)
    ready = with_norms(ready, options)
    rescue = Rescue(folder, ready.opened.model, options, watch.say, ready.norms.folded)
    with rescue:
        history, zeroed, ready = _fit(ready, options, folder, rescue, watch, record, stamped, going)
        target = options.share if options.prunes else 0.0
        groups = max(sum(d.size for d in ready.opened.analysis.prunable), 1)
        earlier = going.seconds if going is not None else 0.0
        stopped = history.stopped or (watch.stop is not None and watch.stop())
        if stopped or peers.rank:  # what follows is the work of rank 0
            history = replace(history, stopped=stopped)
            seconds = earlier + time.perf_counter() - begin
            return Trained(folder.path, target, zeroed / groups, seconds, history, chosen=zeroed)
        watch.say("compacting, verifying, measuring")
        for name in MODELS:
            folder.place(name)
        with limited(UNLIMITED):  # the model has proved itself, and nothing that was trained may be lost
            _check_norms(ready, rescue.trained, watch.say)
            removed, gain = finish(
                ready.opened.model,
                ready.opened.origins,
                rescue.weights,
                ready.dataset,
                options,
                folder.path,
                ready.aim,
                ready.serving,
                ready.feeding,
                ready.goal,
                explanation.within(ready.goal.budgets),
                providers=ready.providers,
                reported=ready.reported,
            )
            gain = replace(gain, original=ready.original, whole=ready.whole is not None)
            int8, refused = (
                int8_of_run(ready, options, folder, gain, watch.say) if options.int8 else (None, None)
            )
            forget(folder)
        seconds = earlier + time.perf_counter() - begin
        result = Trained(
            folder.path, target, removed / groups, seconds, history, gain, zeroed, ready.goal, int8
        )
        told = result.as_json() | ({} if refused is None else {"int8": failed(refused)})
        provenance = provenance_of(path, source, stamped)
        write_json(folder.place(RESULT), {**told, "options": options.as_json(), "provenance": provenance})
    if refused is not None:
        raise kept_float(refused, folder.path / COMPACT, folder.path / INT8) from refused
    return result


def require_own_files(
    run: str | os.PathLike[str],
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    options: TrainOptions,
) -> None:
    """Raise UsageError when the run would replace what it reads. The table of an earlier run stays where it is."""
    writes = [Output(Path(run) / name, model=name in MODELS) for name in (*FILES, MANIFEST)]
    reads = files_read(path, options, source)
    if options.tokenizer is not None:
        reads[Path(options.tokenizer)] = "the tokenizer"
    if isinstance(options.teacher, Path):
        reads |= dict.fromkeys(stored_files(options.teacher), "the teacher")
    require_apart(reads, writes, "give another folder")
    others = [each for each in writes if Path(each.path).name != TABLE]
    require_apart(*with_table(reads, others, options.table), "give another table")


def _fit(
    ready: Ready,
    options: TrainOptions,
    folder: RunFolder,
    rescue: Rescue,
    watch: Watch,
    record: Record,
    stamped: Stamp,
    going: Going | None,
) -> tuple[History, int, Ready]:
    """Return what happened, how many groups are zero, and what else is ready by now.

    The weights, once the last step is taken, are in `rescue`.
    """
    with limited(options.limits):
        session = ready.preparation.build(ready.others, watch.peers)
    if session.hindrance is not None:
        watch.say(f"warning: parameters and gradients cross in every step: {session.hindrance}")
    try:
        optimizer = make_optimizer(
            ready.opened.analysis,
            session,
            options,
            steps_of(ready, options),
            ready.goal,
            ready.norms,
            None if ready.cut is None else ready.cut.drop,
        )
        recipe = recipe_of(ready, options)
        require_measurable(
            session.predict, ready.dataset.test, recipe.loss, recipe.metrics, providers=recipe.providers
        )
        selection = Selection.of(
            session, ema=options.ema, choose=ready.dataset.val is not None, patience=options.patience
        )
        if going is None:
            folder.begin()
            store(ready, folder)
            start = None
        else:
            start = going.enter(folder, session, optimizer, selection.parts)
            if not (folder.path / START).exists():
                store(ready, folder)
            if going.checkpoint is None:
                forget(folder)  # nothing says that they are of this model and these data
        settled = _settled(ready, session, folder, start)
        record.write(folder, **settled)
        keeper = Keeper(
            Places(*(folder.place(name) for name in (CHECKPOINT, BEFORE, LAST_GOOD))),
            stamped.settled(options, settled).as_json(),
            selection.parts,
            minutes=options.checkpoint_minutes,
            writes=watch.peers.rank == 0,
        )
        if going is not None and going.anew and start is not None:
            keeper.save(session, optimizer, start)
            keeper.finish()
            going.leave_behind(folder)
        ready = before_the_first_step(ready, options, folder, watch.say)
        if watch.observer is not None and (score := ready.original) is not None:
            watch.observer.notice(Judged("test", score.metric, score.value))
        folder.stay()
        with MetricsFile(folder.place(METRICS)) as metrics:
            watching = Observers((rescue, metrics, *([watch.observer] if watch.observer else [])))
            with watch.listening:
                history = run_loop(
                    session,
                    optimizer,
                    ready.looked_at(options),
                    recipe,
                    observer=watching,
                    stop=watch.stop,
                    keeper=keeper,
                    start=start,
                    selection=selection,
                    peers=watch.peers,
                )
        return history, optimizer.zeroed, ready
    finally:
        rescue.take(session)
        session.close()


def _settled(
    ready: Ready, session: GradientSession, folder: RunFolder, start: Position | None
) -> dict[str, Any]:
    """Return what was found out or measured, by setting: it is stored, and read when the run goes on or is repeated."""
    whole = session.shards == 1 or ready.preparation.joint
    settled: dict[str, Any] = {
        "shards": session.shards,
        "session_threads": ready.preparation.threads,
        "statistics": "batch" if whole else "shard",
        "backend": ready.preparation.backend.name,
    }
    if scales := scales_of(ready.aim.loss):
        settled["teacher_scale"] = scales
    if ready.goal.table is not None:
        place = folder.place(TABLE)
        if start is None:
            write_table(ready.goal.table, place)
        settled["table"] = place
    return settled


def settled_by_start(
    ready: Ready, options: TrainOptions, record: Record, say: Say
) -> tuple[TrainOptions, Record]:
    """Return the options with all that depends on how the model comes, and the record of them; it is said."""
    start = ready.start
    came = None if start is None else start.start
    resolved = options.resolved(came, normed=ready.normed)
    if options.optimizer == AUTO and resolved.cuts_first and (options.share == 0 or not is_worth_it(ready)):
        resolved = replace(options, optimizer=SCRATCH_OPTIMIZER).resolved(came, normed=ready.normed)
    if start is not None:
        say(f"{start.told()}; {set_by_start(options, resolved)}")
        if start.start == "scratch" and ready.aim.teacher == "self" and options.teacher is None:
            say(
                "warning: a model that was not trained learns nothing from itself: give targets, or --teacher FILE "
                "(--from trained, if it was)"
            )
    if resolved.from_ == "trained" and not ready.normed:
        for sentence in told_bare(ready.opened, ready.preparation.spec.trainable, ready.aim.outputs):
            say(sentence)
    taught, scaled = isinstance(ready.aim.loss, Distill), "scale" in ready.dataset.prepared
    for sentence in cautions(resolved, steps_of(ready, resolved), unlabelled=taught, scaled=scaled):
        say(sentence)
    is_own = isinstance(record.settings, TrainOptions)
    return resolved, replace(record, settings=resolved) if is_own else record


def _check_norms(ready: Ready, weights: Mapping[str, Any], say: Say) -> None:
    """Compare the model with norms and the one they are folded into, where there are any. Raises OtoError."""
    if not ready.norms.layers:
        return
    verdict = check_folded(
        ready.norms, ready.opened, ready.serving, ready.aim.outputs, weights, ready.dataset.test
    )
    say(
        f"the norms put back are folded in again: largest difference {verdict.max_abs:.1e} "
        f"({verdict.max_rel:.1e} of the largest output) on {verdict.samples} test samples"
    )


def steps_of(ready: Ready, options: TrainOptions) -> int:
    return total_steps(
        len(ready.dataset.train), ready.preparation.spec.batch, options.epochs, options.accumulate
    )


def recipe_of(ready: Ready, options: TrainOptions) -> Recipe:
    steps = steps_of(ready, options)
    warm_up = min(round(steps * options.pace().warm_up), steps)
    falls = options.falls()
    schedule = Schedule(
        options.pace().schedule,
        options.learning_rate,
        steps,
        warm_up=warm_up,
        milestones=falls.milestones,
        factor=falls.factor,
    )
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
        loaders=options.loaders,
        providers=ready.providers,
    )
