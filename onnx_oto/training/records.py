"""metrics.jsonl: one JSON object per line, appended and flushed, so that a killed training can be read too.

Keys of a step and an epoch: kind ("step" or "epoch"), epoch, step, loss, lr, phase ("observe", "shrink", "finish"
or "done"), zeroed, target, seconds, skipped, waited (seconds until batches were there). An epoch line has metric,
value, test_loss and further (the other metrics by name), split (the data that these are of) and best too. A line of
kind "skipped", for a step that was left out: epoch, step, reason, skipped, allowed. One of kind "kept", at the end,
says which parameters are handed back where that are not those of the last step: epoch, epochs, step, split, metric,
value, averaged, early.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from onnx_oto.errors import StorageError
from onnx_oto.model.files.replace import replacing
from onnx_oto.training.checkpoint import Position
from onnx_oto.training.events import EpochEnded, Event, Kept, PutOff, Skipped, Stepped


class MetricsFile:
    """An observer that writes every epoch, every skipped step and every `every`-th step. Use it in a `with` statement.

    Raises StorageError when the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], *, every: int = 10) -> None:
        self._path = Path(path)
        self._every = every
        try:
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise self._failure(error) from None

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            self._file.close()  # writes again what could not be written before
        except OSError as failure:
            if error is None:
                raise self._failure(failure) from None

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        if isinstance(event, EpochEnded):
            self._write({"kind": "epoch", **asdict(event)})
        elif isinstance(event, Skipped):
            self._write({"kind": "skipped", **asdict(event)})
        elif isinstance(event, PutOff):
            self._write({"kind": "put off", **asdict(event)})
        elif isinstance(event, Kept):
            self._write({"kind": "kept", **asdict(event)})
        elif isinstance(event, Stepped) and event.step % self._every == 0:
            self._write({"kind": "step", **asdict(event)})

    def _write(self, record: Mapping[str, Any]) -> None:
        line = json.dumps({key: _plain(value) for key, value in record.items() if key != "total"})
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> StorageError:
        return StorageError(f"cannot write {str(self._path)!r}: {error.strerror or error}")


def cut_back(path: str | os.PathLike[str], position: Position) -> None:
    """Take out of a file what lies behind a position: those steps will be taken again. Raises StorageError."""
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        with replacing(path) as file:
            file.writelines(line for line in lines if _lies_before(line, position))
    except OSError as error:
        raise StorageError(f"cannot write '{path}': {error.strerror or error}") from None


def _lies_before(line: bytes, position: Position) -> bool:
    """Say whether a line tells of what came before; one that a killed process left half does not."""
    try:
        record = json.loads(line)
        if record["kind"] == "epoch":
            return int(record["epoch"]) <= position.epoch
        if record["kind"] == "kept":
            return False  # it is told again at the end
        if record["kind"] == "skipped":
            return int(record["skipped"]) <= position.skipped
        return int(record["step"]) <= position.step
    except (ValueError, KeyError, TypeError):
        return False


def _plain(value: Any) -> Any:
    """Return numbers that JSON can hold.

    A loss that is not finite becomes null, and six digits are enough.
    """
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
