"""Everything a run needs to go on, in one file: an npz with arrays and one JSON text, never pickle.

Order and augmentation depend on (seed, epoch, batch) alone and Dropout on (seed, step), so no generator
state has to be kept: the position is enough for a bit-identical continuation.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.data.archive import read_arrays
from onnx_oto.errors import DataError, StorageError, UsageError, one_line
from onnx_oto.gradients import GradientSession
from onnx_oto.model.files.replace import together
from onnx_oto.optim import Optimizer
from onnx_oto.training.events import EpochEnded

Array = npt.NDArray[Any]

VERSION = 3
_OPTIMIZER = "optimizer."
_PART = "part."


class Part(Protocol):
    """What has a state of its own between two steps, besides parameters, statistics and optimizer."""

    def state(self) -> Mapping[str, Array]:
        """Return the state: arrays by names without a dot. They are not kept beyond the call."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take over what `state` returned."""
        ...


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    The next batch is number `batch` of epoch `epoch` (both from 0), the first of a step; `step` steps were taken and
    `skipped` left out. losses: sum of the losses of the current epoch's steps so far; history: the epochs that are
    done; seconds: that it took so far.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    losses: float = 0.0
    skipped: int = 0
    history: tuple[EpochEnded, ...] = ()
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file holds. passes: `steps` of the session, one per batch that it has seen.

    run: what the caller stored to recognise the run, JSON values.
    """

    progress: Position
    params: Array
    buffers: dict[str, Array]
    optimizer: dict[str, Array]
    slices: dict[str, tuple[int, tuple[int, ...]]]
    passes: int
    run: dict[str, Any]
    parts: dict[str, dict[str, Array]]


def take_state(
    session: GradientSession,
    optimizer: Optimizer,
    progress: Position,
    *,
    run: Mapping[str, Any] | None = None,
    parts: Mapping[str, Part] | None = None,
) -> Mapping[str, Array]:
    """Return the state of a run as arrays that no later step changes."""
    flat, slices = np.asarray(session.statistics), session.statistic_slices
    meta = {
        "version": VERSION,
        "progress": asdict(progress),
        "passes": session.steps,
        "buffers": [[name, list(shape)] for name, (_, shape) in slices.items()],
        "slices": [[name, offset, list(shape)] for name, (offset, shape) in session.slices.items()],
        "run": dict(run or {}),
    }
    statistics = [flat[offset : offset + math.prod(shape)] for offset, shape in slices.values()]
    arrays: dict[str, Array] = {
        "meta": np.frombuffer(json.dumps(meta).encode(), np.uint8),
        "params": np.array(session.params),
        "buffers": np.concatenate([*statistics, np.zeros(0, np.float32)]),
        **{_OPTIMIZER + key: value for key, value in optimizer.state().items()},
    }
    for name, part in (parts or {}).items():
        arrays |= {f"{_PART}{name}.{key}": np.array(value) for key, value in part.state().items()}
    return arrays


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Return the content of a checkpoint.

    StorageError when it cannot be read, is damaged or of another version.
    """
    try:
        return _parse(read_arrays(path))
    except DataError as error:
        reason = str(error).removeprefix(f"{str(path)!r}: ")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = one_line(error)
    raise StorageError(f"checkpoint {str(path)!r} is damaged ({reason}): use an older one, or start again")


def read_run(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a checkpoint holds of its run (`run`), no weights; empty where it cannot be read."""
    try:
        run = json.loads(read_arrays(path, lambda blanks: {"meta"} & blanks.keys())["meta"].tobytes())["run"]
    except (DataError, StorageError, ValueError, KeyError, TypeError):
        return {}
    return run if isinstance(run, dict) else {}


def restore(
    checkpoint: Checkpoint,
    session: GradientSession,
    optimizer: Optimizer,
    parts: Mapping[str, Part] | None = None,
) -> Position:
    """Put the state into a session, an optimizer and parts built as for the first start; return where to go on.

    Raises UsageError when the checkpoint is of another model.
    """
    if set(parts or {}) != set(checkpoint.parts):
        raise UsageError("the checkpoint is of other settings: resume with those of the first start")
    if checkpoint.slices != session.slices or list(checkpoint.buffers) != list(session.statistic_slices):
        other = sorted(set(checkpoint.slices) ^ set(session.slices)) or ["other shapes"]
        raise UsageError(
            f"the checkpoint is of another model ({other[0]}): resume with the model of the first start"
        )
    np.copyto(session.params, checkpoint.params)
    statistics = np.array(session.statistics)
    for name, (offset, shape) in session.statistic_slices.items():
        statistics[offset : offset + math.prod(shape)] = checkpoint.buffers[name].reshape(-1)
    np.copyto(session.statistics, statistics)
    optimizer.restore(checkpoint.optimizer)
    for name, part in (parts or {}).items():
        part.restore(checkpoint.parts[name])
    session.steps = checkpoint.passes
    return checkpoint.progress


def _parse(arrays: dict[str, Array]) -> Checkpoint:
    meta = json.loads(arrays["meta"].tobytes())
    if meta["version"] != VERSION:
        raise ValueError(f"version {meta['version']}, this program reads {VERSION}")
    fields = meta["progress"]
    history = tuple(EpochEnded(**record) for record in fields.pop("history"))
    buffers: dict[str, Array] = {}
    used = 0
    for name, shape in meta["buffers"]:
        size = int(np.prod(shape, dtype=np.int64))
        buffers[name] = arrays["buffers"][used : used + size].reshape(shape)
        used += size
    parts: dict[str, dict[str, Array]] = {}
    for key, value in arrays.items():
        if key.startswith(_PART):
            name, inner = key[len(_PART) :].split(".", 1)
            parts.setdefault(name, {})[inner] = value
    return Checkpoint(
        progress=Position(**fields, history=history),
        params=arrays["params"],
        buffers=buffers,
        optimizer={key[len(_OPTIMIZER) :]: a for key, a in arrays.items() if key.startswith(_OPTIMIZER)},
        slices={name: (offset, tuple(shape)) for name, offset, shape in meta["slices"]},
        passes=meta["passes"],
        run=meta["run"],
        parts=parts,
    )


def write_state(
    path: str | os.PathLike[str], arrays: Mapping[str, Array], *, before: str | os.PathLike[str] | None = None
) -> None:
    """Write what `take_state` returned; an existing file is replaced in one step, or left as it was.

    before: where that one is kept then; whenever the process is killed, `path` holds a complete checkpoint.
    Raises StorageError when the disk does not take it; the temporary file is removed then.
    """
    try:
        with together() as files:
            target = files.claim(path)
            if before is not None and target.exists():
                files.keeping(target, files.claim(before))
            with files.writing(target) as file:
                savez: Any = np.savez  # its stubs take every keyword for `allow_pickle`
                savez(file, **arrays)
    except OSError as error:
        raise StorageError(f"cannot write {str(Path(path))!r}: {error.strerror or error}") from None
