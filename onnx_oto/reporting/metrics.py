"""metrics.jsonl, read back: what was logged of a run, whatever version wrote it and wherever it broke off."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOST_BYTES = 1 << 28
"""Beyond it the rest of a file is not read."""
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Phase:
    """Steps of one part of the plan: after `begin`, up to `end`."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Logged:
    """What a run logged. steps: lines of kind "step"; epochs: those of kind "epoch"; skipped: steps left out."""

    steps: tuple[Record, ...]
    epochs: tuple[Record, ...]
    skipped: int = 0

    @property
    def last_step(self) -> int:
        """How many steps were taken, as far as it was written down."""
        return max((int(each["step"]) for each in (*self.steps, *self.epochs)), default=0)

    @property
    def per_epoch(self) -> float | None:
        """Steps of an epoch, None before one was complete."""
        return next((each["step"] / each["epoch"] for each in self.epochs if each.get("epoch")), None)

    def phases(self) -> tuple[Phase, ...]:
        """Return the parts of the plan, in order."""
        found: list[Phase] = []
        before = 0.0
        for each in sorted((*self.steps, *self.epochs), key=lambda record: record["step"]):
            name, step = str(each.get("phase") or ""), float(each["step"])
            if found and found[-1].name == name:
                found[-1] = Phase(name, found[-1].begin, step)
            elif name:
                found.append(Phase(name, before, step))
            before = step
        return tuple(found)


def read_metrics(path: str | os.PathLike[str]) -> Logged:
    """Return what is in a file; lines that are none of ours, or half of one, are passed over. Raises OSError."""
    records = list(_records(path))
    steps = [each for each in records if each.get("kind") == "step"]
    epochs = [each for each in records if each.get("kind") == "epoch"]
    return Logged(tuple(steps), tuple(epochs), sum(each.get("kind") == "skipped" for each in records))


def _records(path: str | os.PathLike[str]) -> Iterator[Record]:
    with open(path, "rb") as file:
        read = 0
        for line in file:
            read += len(line)
            if read > MOST_BYTES:
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and isinstance(record.get("step"), int | float):
                yield record
