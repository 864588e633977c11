"""The folder of a run: one process at a time writes there, and nothing is replaced but what earlier runs wrote.

A manifest (`.onnx-oto.json`) names the verb that wrote the folder and the files that it wrote so far.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from onnx_oto.errors import OtoError, StorageError, UsageError
from onnx_oto.model.files.lock import hold
from onnx_oto.model.files.replace import replacing
from onnx_oto.model.files.saving import clean, remove, storing

METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.npz"
BEFORE = "checkpoint-before.npz"
LAST_GOOD = "last-good.npz"
TRAINED = "trained.onnx"
COMPACT = "compact.onnx"
INT8 = "compact.int8.onnx"
RESULT = "result.json"
START = "start.npz"
"""What went before the first step, and the weights that were fitted to that."""
SETTINGS = "run.toml"
TABLE = "latency.json"
REPORTS = {kind: f"report.{kind}" for kind in ("html", "md", "json")}
"""The report, by format: the first one is written at the end of every run."""
UNPACKED = "unpacked"
"""Folder of data that were unpacked once, which later runs use again."""
ANSWERS = {split: f"teacher-{split}.npy" for split in ("train", "val", "test")}
"""What a teacher says of each split, while the run lasts."""
FILES = (
    SETTINGS,
    TABLE,
    METRICS,
    START,
    CHECKPOINT,
    BEFORE,
    LAST_GOOD,
    *ANSWERS.values(),
    TRAINED,
    COMPACT,
    INT8,
    RESULT,
    *REPORTS.values(),
)
MODELS = (TRAINED, COMPACT)
_FORMER = tuple(
    name
    for name in FILES
    if name not in (SETTINGS, TABLE, START, BEFORE, INT8, *ANSWERS.values(), *REPORTS.values())
)
"""What runs wrote that left no manifest."""
MANIFEST = ".onnx-oto.json"
LOCK = ".onnx-oto.lock"
SCHEMA = 1
_MOST_BYTES = 1 << 16
_MOST_RESULT = 1 << 26
"""Beyond it a file of results is none of ours."""


@dataclass(frozen=True)
class Manifest:
    """What a run left in its folder. verb: the command that it was."""

    verb: str = ""
    files: tuple[str, ...] = ()


class RunFolder:
    """A folder that this process alone writes to, see `claim`. stays: whether a run has begun that may go on."""

    def __init__(self, path: Path, verb: str, earlier: Manifest) -> None:
        self.path = path
        self._earlier = earlier
        self._manifest = Manifest(verb)
        self._is_new = False
        self.stays = False
        self._had_unpacked = os.path.lexists(path / UNPACKED)

    def begin(self) -> None:
        """Remove the files of an earlier run, and what killed runs left of them. Raises StorageError."""
        with storing_in(self.path):
            for name in FILES:
                clean(self.path / name)
            for name in self._earlier.files:
                remove(self.path / name)
            self._is_new = True
            self.place(METRICS).touch()

    def go_on(self) -> None:
        """Count the files of the earlier run as this one's; what killed runs left beside them goes."""
        self._manifest = self._earlier
        with storing_in(self.path):
            for name in (*FILES, MANIFEST):
                clean(self.path / name)

    def stay(self) -> None:
        """Say that the first step comes: what the run wrote stays from now on, whatever happens."""
        self.stays = True

    def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Remove what a run wrote that was left before its first step: the end of a `with`.

        Data that were unpacked stay only where there were some before. What a run that had begun was interrupted with,
        not refused, stays: it can go on.
        """
        is_refused = isinstance(error, OtoError)
        if error is None or self.stays or (self._is_new and not is_refused):
            return
        if not self._had_unpacked:
            shutil.rmtree(self.path / UNPACKED, ignore_errors=True)
        if self._is_new:
            with contextlib.suppress(OSError):
                for name in self._manifest.files:
                    remove(self.path / name)

    @property
    def holds(self) -> Manifest:
        """What an earlier run left."""
        return self._earlier

    def place(self, name: str) -> Path:
        """Return where to write a file, which counts as one of this run from now on. Raises StorageError."""
        place = self.path / name
        if name in self._manifest.files:
            return place
        if os.path.lexists(place):
            raise StorageError(f"'{place}' was written by somebody else during the run: it is not replaced")
        self._manifest = Manifest(self._manifest.verb, (*self._manifest.files, name))
        line = json.dumps({"schema": SCHEMA, **asdict(self._manifest)})
        with storing(self.path / MANIFEST), replacing(self.path / MANIFEST) as file:
            file.write(line.encode() + b"\n")
        return place


@contextlib.contextmanager
def reclaim(run: str | os.PathLike[str]) -> Iterator[RunFolder]:
    """Lock the folder of an earlier run, to go on with it. Nothing in it changes yet.

    Data that were unpacked by one that is refused then are removed. Raises UsageError where there is no such folder,
    another process has it, or no run wrote it.
    """
    path = Path(run)
    if not path.is_dir():
        raise UsageError(f"'{run}' is no folder of a run: give the one that was --run")
    with contextlib.ExitStack() as held:
        with storing_in(path):
            _lock(held, path)
            earlier = _earlier(path)
        if earlier is None or not (path / MANIFEST).exists():
            raise UsageError(f"'{run}' holds no run to go on with: give the folder that was --run")
        _require_own(path, earlier)
        folder = RunFolder(path, earlier.verb, earlier)
        held.push(folder.leave)
        yield folder


@contextlib.contextmanager
def claim(run: str | os.PathLike[str], *, verb: str, overwrite: bool = False) -> Iterator[RunFolder]:
    """Make the folder and lock it; a folder that stays empty is removed at the end. Nothing in it changes yet.

    What a run wrote that was refused before its first step is removed (see `RunFolder.leave`).

    Raises UsageError when another process has it, when it holds an earlier run (a demo replaces a demo without
    `overwrite`), or files that a run would replace and none wrote; StorageError when it cannot be written.
    """
    path = Path(run)
    with contextlib.ExitStack() as held:
        with storing_in(path):
            made = [each for each in (path, *path.parents) if not each.exists()]
            held.callback(_remove_empty, made)
            path.mkdir(parents=True, exist_ok=True)
            held.callback(_remove_idle_manifest, path)
            _lock(held, path)
            earlier = _earlier(path)
            _require_free(path, earlier, verb, overwrite)
        folder = RunFolder(path, verb, earlier or Manifest())
        held.push(folder.leave)
        yield folder


def require_claimable(run: str | os.PathLike[str], *, verb: str, overwrite: bool = False) -> None:
    """Raise what `claim` would of a folder and what it holds, without touching either: UsageError, StorageError."""
    path = Path(run)
    nearest = next(each for each in (path, *path.parents) if each.exists() or each.parent == each)
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        why = "it is no folder" if not nearest.is_dir() else "it may not be written"
        raise StorageError(f"cannot write to the folder '{path}': {why}, '{nearest}'")
    if path.exists():
        _require_free(path, _earlier(path), verb, overwrite)


@contextlib.contextmanager
def storing_in(folder: Path) -> Iterator[None]:
    """Turn what the system says inside the block into a StorageError about a folder."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(
            f"cannot write to the folder '{folder}': '{error.filename or folder}' is a file: give another folder"
        ) from None
    except OSError as error:
        raise StorageError(f"cannot write to the folder '{folder}': {error.strerror or error}") from None


def read_result(run: Path) -> dict[str, Any] | None:
    """Return what the run in a folder came to; None where that is not there, or is damaged. Raises StorageError."""
    try:
        with open(run / RESULT, "rb") as file:
            found = json.loads(file.read(_MOST_RESULT))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot read '{run / RESULT}': {error.strerror or error}") from None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("verify"), dict) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object, atomically. Raises StorageError."""
    with storing(path), replacing(path) as file:
        file.write((json.dumps(value, indent=1) + "\n").encode())


def _lock(held: contextlib.ExitStack, path: Path) -> None:
    """Lock a folder until `held` ends. Raises UsageError when another process has it."""
    try:
        held.enter_context(hold(path / LOCK))
    except StorageError:
        raise UsageError(
            f"another run is writing to '{path}': wait until it has ended, or give another folder"
        ) from None


def _require_own(path: Path, earlier: Manifest | None) -> list[str]:
    """Return which files of a run are there. Raises UsageError for one that no run wrote."""
    present = [name for name in FILES if os.path.lexists(path / name)]
    foreign = [name for name in present if earlier is None or name not in earlier.files]
    if earlier is None and os.path.lexists(path / MANIFEST):
        foreign.append(MANIFEST)
    if foreign:
        raise UsageError(
            f"'{path / foreign[0]}' would be replaced, but no earlier run wrote it: move it, or give another folder"
        )
    return present


def _require_free(path: Path, earlier: Manifest | None, verb: str, overwrite: bool) -> None:
    """Raise UsageError when files are there that may not be replaced."""
    present = _require_own(path, earlier)
    if not present or overwrite or (earlier is not None and earlier.verb == verb == "demo"):
        return
    if verb == "demo":
        raise UsageError(f"'{path}' holds an earlier run that is not the demo's: give another folder")
    way = f"onnx-oto resume {shlex.quote(str(path))}"
    raise UsageError(
        f"'{path}' holds an earlier run: go on with it (`{way}`), give another folder, or --overwrite"
    )


def _earlier(path: Path) -> Manifest | None:
    """Return what an earlier run wrote, None when there was none.

    Versions that left no manifest are known by their metrics.
    """
    if not os.path.lexists(path / MANIFEST):
        first = _json_of(path / METRICS)
        return Manifest("train", _FORMER) if first.get("kind") in ("step", "epoch") else None
    written = _json_of(path / MANIFEST)
    verb, files = written.get("verb"), written.get("files")
    if written.get("schema") != SCHEMA or not isinstance(verb, str) or not isinstance(files, list):
        return None
    return Manifest(verb, tuple(name for name in files if name in FILES))


def _json_of(path: Path) -> dict[str, Any]:
    """Return the JSON object in the first line of a file, an empty one for anything else."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.readline(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _remove_idle_manifest(path: Path) -> None:
    """Remove a manifest of files none of which is there: a run failed before it wrote any."""
    earlier = _earlier(path)
    if earlier is not None and not any(os.path.lexists(path / name) for name in earlier.files):
        with contextlib.suppress(OSError):
            (path / MANIFEST).unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()
