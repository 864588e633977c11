"""`resume`: go on with a run that was left, as if it had not been."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from onnx_oto.errors import StorageError, UsageError
from onnx_oto.peers.seam import ALONE, Peers
from onnx_oto.pipeline.bookkeeping import SETTLED
from onnx_oto.pipeline.demo import embedded
from onnx_oto.pipeline.folder import (
    BEFORE,
    CHECKPOINT,
    LAST_GOOD,
    RESULT,
    SETTINGS,
    RunFolder,
    read_result,
    reclaim,
)
from onnx_oto.pipeline.going_on import Going, files_named
from onnx_oto.pipeline.options import DemoOptions, TrainOptions
from onnx_oto.pipeline.ready import Say
from onnx_oto.pipeline.recording import Record
from onnx_oto.pipeline.result import Trained
from onnx_oto.pipeline.resume_options import ResumeOptions
from onnx_oto.pipeline.running_options import PathLike
from onnx_oto.pipeline.together import held_by_first
from onnx_oto.pipeline.train import Watch, carry_out, require_own_files
from onnx_oto.settings import Setting, Settings, settings_of
from onnx_oto.settings.base import flat, gathered
from onnx_oto.settings.declare import About
from onnx_oto.settings.files import read_settings
from onnx_oto.settings.kinds import SOURCE, is_function
from onnx_oto.training import Checkpoint, Observer, load_checkpoint

Kind = TypeVar("Kind", bound=Settings)
_READ = ("model", "data")
"""What run.toml names besides settings."""


def resume(
    run: str | os.PathLike[str],
    options: ResumeOptions | None = None,
    *,
    observer: Observer | None = None,
    say: Say = lambda text: None,
    stop: Callable[[], bool] | None = None,
    listening: AbstractContextManager[object] | None = None,
    peers: Peers = ALONE,
) -> Trained | None:
    """Go on with the run in a folder, to the same bytes as if it had not been left; None when it is complete already.

    It goes on from the last complete checkpoint, or, where that is damaged, from the one before; from the beginning,
    where none was written yet. A run that diverged goes on from its last checkpoint before that, at the learning rate
    of the options. Model, settings and data must be what they were; as many processes as one likes may share the work
    now (`peers`; the folder is read by the first of them alone). Raises UsageError, DataError and StorageError
    where they are not, or there is nothing to go on with; and what `train` does.
    """
    options = options or ResumeOptions()
    watch = Watch(observer, say, stop, listening or nullcontext(), peers)
    with held_by_first(peers, reclaim(run), "resume") as folder, contextlib.ExitStack() as held:
        found = peers.told(lambda: _found(held, folder, options, watch.say))
        if found is None:
            folder.go_on()
            return None
        begun, record, going = found
        chosen, going = _dealt(_settled(begun.options, going.checkpoint), going, peers.size, watch.say)
        return carry_out(folder, begun.model, begun.data, chosen, record, watch, going)


def _found(held: contextlib.ExitStack, folder: RunFolder, options: ResumeOptions, say: Say) -> Found | None:
    """Return what the folder holds, None of a run that is complete. Files that are temporary stay as long as `held`."""
    if read_result(folder.path) is not None:
        return None
    if (folder.path / RESULT).exists():
        say(f"{RESULT} is damaged: it is made again")
    begun, record = held.enter_context(_begun(folder, options))
    require_own_files(folder.path, begun.model, begun.data, begun.options)
    return Found(begun, record, _going(folder, options, begun, say))


def _dealt(options: TrainOptions, going: Going, ranks: int, say: Say) -> tuple[TrainOptions, Going]:
    """Return settings and going on with a shard at least for every rank."""
    if not 0 < options.shards < ranks:
        return options, going
    say(
        f"the run had {options.shards} shards and has {ranks} now, one for each rank: what follows may differ from "
        "what it would have been, by the statistics of BatchNorm, or in the last digits"
    )
    return replace(options, shards=ranks), replace(going, raised=frozenset({"shards"}))


class Begun(NamedTuple):
    """What a run was begun with."""

    model: Path
    data: Path
    options: TrainOptions


class Found(NamedTuple):
    """What the folder of a run holds."""

    begun: Begun
    record: Record
    going: Going


@contextlib.contextmanager
def _begun(folder: RunFolder, options: ResumeOptions) -> Iterator[tuple[Begun, Record]]:
    """Give what run.toml says, as long as the block: the embedded files of a demo may be temporary."""
    place = folder.path / SETTINGS
    if SETTINGS not in folder.holds.files or not place.exists():
        raise UsageError(
            f"the run in '{folder.path}' was left before it had begun: start it again, with --overwrite"
        )
    if folder.holds.verb == "demo":
        demo = _read(place, "demo", DemoOptions)[0]
        if options.lr is not None:
            raise UsageError("lr: the demo has one learning rate, go on without --lr")
        with embedded() as (model, source):
            yield Begun(model, source, demo.training().resolved()), Record("demo", demo)
        return
    settings, reads = _read(place, folder.holds.verb, TrainOptions)
    model, source = (_path(name, getattr(options, name), reads) for name in _READ)
    if options.lr is not None:
        settings = replace(settings, lr=options.lr)
    settings = settings.resolved()
    anew = tuple(name.upper() for name in _READ if name not in reads)
    read = {name: path for name, path in zip(_READ, (model, source), strict=True) if name in reads}
    _require_files(settings, place)
    yield Begun(model, source, settings), Record(folder.holds.verb, settings, read, anew)


def _settled(options: TrainOptions, checkpoint: Checkpoint | None) -> TrainOptions:
    """Return the settings with what the run found out for itself, where its verb does not write that down."""
    known = {} if checkpoint is None else checkpoint.run.get("settings", {})
    default = TrainOptions()
    found = {
        name: known[name]
        for name in SETTLED
        if name in known and getattr(options, name) == getattr(default, name)
    }
    return replace(options, **found)


def _path(name: str, moved: PathLike | None, reads: dict[str, Path]) -> Path:
    """Return where something is that the run reads. Raises UsageError."""
    if moved is not None:
        return Path(moved)
    if name not in reads:
        raise UsageError(f"{name} was given in memory when the run began: give it again with --{name}")
    if not os.path.lexists(reads[name]) and not is_function(reads[name]):
        raise StorageError(
            f"the {name} of the run is not at '{reads[name]}' any more: say where with --{name}"
        )
    return reads[name]


def _require_files(options: TrainOptions, place: Path) -> None:
    """Raise StorageError for a file that a setting names and that has moved: run.toml says where it is."""
    for name, path in files_named(options).items():
        if not os.path.lexists(path):
            key = name.replace("_", "-")
            raise StorageError(
                f"the file of --{key} is not at '{path}' any more: put it back, or write where it is as {key} in "
                f"'{place}'"
            )


def _read(place: Path, verb: str, kind: type[Kind]) -> tuple[Kind, dict[str, Path]]:
    """Return the settings in a file, and what the run read, by name. Raises UsageError and StorageError."""
    fields = settings_of(kind)
    paths = [Setting(name, SOURCE, About(""), None, True) for name in _READ]
    values: dict[str, Any] = read_settings(place, verb, (*paths, *flat(fields)), [verb])
    reads = {name: Path(values.pop(name)) for name in _READ if name in values}
    return kind(**gathered(fields, values)), reads


def _going(folder: RunFolder, options: ResumeOptions, begun: Begun, say: Say) -> Going:
    """Return from where the run goes on. Raises StorageError where no checkpoint can be read, and UsageError."""
    diverged = folder.path / LAST_GOOD
    before = _loaded([diverged], say) if diverged.exists() else None
    newest = _loaded([each for name in (CHECKPOINT, BEFORE) if (each := folder.path / name).exists()], say)
    if before is not None and newest is not None and before.run != newest.run:
        before = None  # it went on from there already, and was left before it forgot
    if before is not None and options.lr is None:
        lr = begun.options.learning_rate
        raise UsageError(
            f"the run diverged after step {before.progress.step} at a learning rate of {lr:g}: go on with a lower one, "
            f"`onnx-oto resume {shlex.quote(str(folder.path))} --lr {lr / 3:.1g}`"
        )
    found = before or newest
    if found is None:
        say("no checkpoint was written yet: the run begins anew")
    else:
        progress = found.progress
        say(f"going on in epoch {progress.epoch + 1}, after step {progress.step}")
    return Going(found, options.same_data, options.lr is not None)


def _loaded(places: list[Path], say: Say) -> Checkpoint | None:
    """Return the first checkpoint that can be read, None where there are none. Raises StorageError."""
    failure: StorageError | None = None
    for place in places:
        try:
            found = load_checkpoint(place)
        except StorageError as error:
            failure = failure or error
            continue
        if failure is not None:
            say(f"{failure}; the one before it is used")
        return found
    if failure is not None:
        raise failure
    return None
