"""The screen of a training run: a few lines that say how it goes, drawn anew a few times a second.

Whatever arrives is only noted: what is drawn is made of the notes when it is drawn, so that a step pays nothing for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from onnx_oto.cli.text import lasting, shown
from onnx_oto.training import EpochEnded, Event, Judged, Kept, Started, Stepped

WIDE = 60
"""Columns from which on labels are whole words."""
LEAST_BAR = 6
_MEMORY = 0.95
"""What share of a mean over the last steps another step leaves."""


class Mean:
    """The mean of the last values, later ones counting more."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float) -> None:
        """Take one more value."""
        self._sum = _MEMORY * self._sum + value
        self._weight = _MEMORY * self._weight + 1.0

    @property
    def value(self) -> float:
        """The mean, 0 before there is a value."""
        return self._sum / self._weight if self._weight else 0.0


@dataclass(frozen=True)
class Pace:
    """When training began (seconds of a clock), and at which step."""

    step: int
    begin: float

    def left(self, step: int, total: int, now: float) -> float:
        """Return the seconds that are left at the pace so far."""
        return (now - self.begin) * (total - step) / max(step - self.step, 1)


class Notes:
    """What is known of a run: taken from its events, in the training thread."""

    def __init__(self) -> None:
        self.started: Started | None = None
        self.stepped: Stepped | None = None
        self.ended: EpochEnded | None = None
        self.original: Judged | None = None
        self.best: EpochEnded | None = None
        self.is_over = False
        self.pace = Pace(0, 0.0)
        self.loss, self.seconds, self.waited = Mean(), Mean(), Mean()

    def take(self, event: Event) -> None:
        """Note what an event says."""
        if isinstance(event, Stepped):
            self.stepped = event
            self.loss.add(event.loss)
            self.seconds.add(event.seconds)
            self.waited.add(event.waited)
        elif isinstance(event, Started):
            self.started, self.is_over = event, False
            self.pace = Pace(event.step, time.perf_counter())
        elif isinstance(event, EpochEnded):
            self.ended = event
            self.best = event if event.best else self.best
            self.is_over = event.step + event.skipped == event.total
        elif isinstance(event, Judged):
            self.original = event
        elif isinstance(event, Kept):
            self.is_over = True

    @property
    def is_running(self) -> bool:
        """Whether there is anything to draw."""
        return self.started is not None and not self.is_over


@dataclass(frozen=True)
class Row:
    """One line. parts: in the order of their weight, the last ones go where there is no room. share: of its bar."""

    label: str
    short: str
    parts: tuple[str, ...]
    share: float | None = None

    def fitted(self, room: int) -> str:
        """Return as many of the parts as fit into so many columns, the first in any case."""
        text = self.parts[0]
        for part in self.parts[1:]:
            if len(text) + 2 + len(part) > room:
                break
            text += f", {part}"
        return text


def rows(notes: Notes, now: float) -> Iterator[Row]:
    """Yield what is drawn of a run that has begun, `now` on the clock of `Pace`."""
    started, stepped = notes.started, notes.stepped
    assert started is not None
    step = started.step if stepped is None else stepped.step
    epoch = min(step // started.steps_per_epoch + 1, started.epochs) if stepped is None else stepped.epoch
    yield Row(
        "epoch",
        "epoch",
        (f"{epoch} of {started.epochs}", f"step {step:,} of {started.total:,}"),
        step / started.total if started.total else 0.0,
    )
    if stepped is None:
        yield Row("state", "state", ("before the first step",))
        return
    last = () if notes.ended is None else (f"last epoch {notes.ended.loss:.4g}",)
    yield Row("loss", "loss", (f"{notes.loss.value:.4g}", *last))
    yield from _metric(notes)
    yield Row("learning rate", "rate", (f"{stepped.lr:.3g}",))
    if stepped.target:
        said = (f"{stepped.zeroed:,} of {stepped.target:,} zero", stepped.phase)
        yield Row("groups", "groups", said, min(stepped.zeroed / stepped.target, 1.0))
    elif stepped.zeroed:
        yield Row("groups", "groups", (f"{stepped.zeroed:,} zero", stepped.phase))
    yield _speed(notes, started.samples)
    so_far = now - notes.pace.begin
    left = notes.pace.left(step, started.total, now)
    skipped = (f"{stepped.skipped} steps left out",) if stepped.skipped else ()
    yield Row("time", "time", (f"about {lasting(left)} left", f"{lasting(so_far)} so far", *skipped))


def _metric(notes: Notes) -> Iterator[Row]:
    """Yield the metric of the last epoch beside the original's, whichever of them is known."""
    ended, original = notes.ended, notes.original
    parts = []
    if ended is not None and ended.value is not None:
        parts.append(f"{ended.value:.4f}")
    if original is not None:
        split = "" if ended is None or ended.split == original.split else f"{original.split} "
        parts.append(f"original {split}{original.value:.4f}")
    if notes.best is not None and notes.best.value is not None:
        parts.append(f"best {notes.best.value:.4f} (epoch {notes.best.epoch})")
    if parts:
        if ended is not None:
            name, split = ended.metric, ended.split
        else:
            assert original is not None
            name, split = original.metric, original.split
        yield Row(f"{split} {name}", name, tuple(parts))


def _speed(notes: Notes, samples: int) -> Row:
    seconds = notes.seconds.value
    rate = samples / seconds if seconds else 0.0
    waiting = notes.waited.value / seconds if seconds else 0.0
    said = f"{rate:,.0f} samples/s" if rate >= 10 else f"{rate:.2g} samples/s"
    wait = [f"{waiting:.0%} waiting for data"] if waiting >= 0.02 else []
    return Row("speed", "speed", (said, *wait, f"{_duration(seconds)} a step"))


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


class Screen:
    """What rich draws: the rows of a run that goes on, nothing before and behind it."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, none of which is longer than the screen is wide."""
        if not self._notes.is_running:
            return
        width = options.max_width
        found = list(rows(self._notes, time.perf_counter()))
        labels = [shown(each.label if width >= WIDE else each.short) for each in found]
        column = min(max(map(len, labels)), max(width // 2 - 2, 1))
        room = max(width - column - 3, 1)
        for label, row in zip(labels, found, strict=True):
            text = shown(row.fitted(room))
            bar = room - len(text) - 1
            line = Text(f" {label:<{column}.{column}} ", no_wrap=True, end="", style="bold")
            line.append(text, style="none")
            if row.share is None or bar < LEAST_BAR:
                yield Text.assemble(line, no_wrap=True, overflow="crop")
                continue
            grid = Table.grid(padding=(0, 1, 0, 0))
            grid.add_row(line, ProgressBar(total=1.0, completed=row.share, width=min(bar, 30)))
            yield grid
