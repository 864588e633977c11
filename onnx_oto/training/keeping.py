"""When the state of a run is written while it trains, and where."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_oto.errors import StorageError
from onnx_oto.gradients import GradientSession
from onnx_oto.model.files.replace import together
from onnx_oto.optim import Optimizer
from onnx_oto.training.checkpoint import Part, Position, save_checkpoint


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

    run: what the caller stores to recognise the run, JSON values. parts: what else has a state. writes: False where
    another process does it. All methods raise
    StorageError when the disk does not take it; what was written before is complete then.
    """

    places: Places
    run: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Part] = field(default_factory=dict)
    minutes: float | None = None
    writes: bool = True
    _since: float = field(default_factory=time.monotonic, init=False)

    def is_due(self) -> bool:
        """Say whether `minutes` have passed since the last checkpoint."""
        return self.minutes is not None and time.monotonic() - self._since >= 60 * self.minutes

    def save(self, session: GradientSession, optimizer: Optimizer, position: Position) -> None:
        """Write a checkpoint, and keep the one before."""
        where = self.places
        if self.writes:
            save_checkpoint(
                where.checkpoint,
                session,
                optimizer,
                position,
                run=self.run,
                parts=self.parts,
                before=where.before,
            )
        self._since = time.monotonic()

    def keep_good(self) -> str:
        """Set the last checkpoint apart as the last state before the run diverged; return where it is.

        What the guard puts back is a step further, but the optimizer's state to it is gone by then.
        """
        where = self.places
        if where.good is None or not self.writes:
            return str(where.checkpoint)
        try:
            with together() as files:
                files.keeping(Path(where.checkpoint), files.claim(where.good))
        except OSError as error:
            raise StorageError(f"cannot write '{Path(where.good)}': {error.strerror or error}") from None
        return str(where.good)
