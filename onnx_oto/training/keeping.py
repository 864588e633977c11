"""When the state of a run is written while it trains, and where."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from onnx_oto.errors import StorageError
from onnx_oto.gradients import GradientSession
from onnx_oto.model.files.replace import together
from onnx_oto.optim import Optimizer
from onnx_oto.training.checkpoint import Part, Position, take_state, write_state


@dataclass(frozen=True)
class Places:
    """The files of a run's state.

    before: keeps the checkpoint that a newer one replaces. good: what the checkpoint was when the run diverged.
    """

    checkpoint: str | os.PathLike[str]
    before: str | os.PathLike[str] | None = None
    good: str | os.PathLike[str] | None = None


@dataclass(eq=False)
class Keeper:
    """Writes checkpoints: at the beginning, after every epoch, on stopping, and every `minutes` within an epoch.

    A state is taken between two steps, and written by a thread beside the next ones; what cannot be written is told by
    the next call. In a `with` statement everything is written at its end, also where an error ends it,
    but not where a signal does.
    run: what the caller stores to recognise the run, JSON values. parts: what else has a state. writes: False where
    another process does it. All methods raise StorageError when the disk does not take it; what was written before is
    complete then.
    """

    places: Places
    run: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    minutes: float | None = None
    writes: bool = True
    _since: float = field(default_factory=time.monotonic, init=False)
    _writing: _Writing | None = field(default=None, init=False)

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        elif isinstance(error, Exception):  # whoever interrupts does not wait
            with contextlib.suppress(StorageError):
                self.finish()

    def is_due(self) -> bool:
        """Say whether `minutes` have passed since the last checkpoint."""
        if self._writing is not None and self._writing.is_over:
            self.finish()
        return self.minutes is not None and time.monotonic() - self._since >= 60 * self.minutes

    def save(self, session: GradientSession, optimizer: Optimizer, position: Position) -> None:
        """Take the state of the run and begin to write it, when the one before is written, which is kept."""
        where = self.places
        if self.writes:
            self.finish()
            state = take_state(session, optimizer, position, run=self.run, parts=self.parts)
            self._writing = _Writing(partial(write_state, where.checkpoint, state, before=where.before))
        self._since = time.monotonic()

    def finish(self) -> None:
        """Wait until what was begun is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.finish()

    def keep_good(self) -> str:
        """Set the last checkpoint apart as the last state before the run diverged; return where it is.

        What the guard puts back is a step further, but the optimizer's state to it is gone by then.
        """
        where = self.places
        self.finish()
        if where.good is None or not self.writes:
            return str(where.checkpoint)
        try:
            with together() as files:
                files.keeping(Path(where.checkpoint), files.claim(where.good))
        except OSError as error:
            raise StorageError(f"cannot write '{Path(where.good)}': {error.strerror or error}") from None
        return str(where.good)


class _Writing:
    """Something that is written by a thread, which ends with the process."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(write,), daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def finish(self) -> None:
        """Wait for it; raise what it raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as failure:
            self._failure = failure
