"""What the user sees of training while it runs, on stderr."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from onnx_oto.cli.screen import console
from onnx_oto.cli.streams import PROGRESS
from onnx_oto.cli.text import lasting, shown
from onnx_oto.training import EpochEnded, Event, Kept, Skipped, Started, Stepped

WIDE_BAR, BAR = 110, 72
"""Columns that all figures of training with a bar take, and without."""
MOST_WAITED, LEAST_WAITED = 0.05, 1.0
"""What share of an epoch may go into waiting for data without a word, and how many seconds may."""


class Progress:
    """A bar with loss, zero groups and time left on stderr, or lines where stderr is no terminal.

    Also an observer of training. Without a terminal a line comes every `every` seconds, as one epoch may take
    minutes.
    """

    def __init__(self, *, every: float = 10.0) -> None:
        self._console = console(PROGRESS)
        self._moves = self._console.is_terminal and not self._console.is_dumb_terminal
        self._bar = Bar(
            *_columns(self._console.width),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self._moves,
        )
        self._task: TaskID | None = None
        self._every = every
        self._pace = Pace(0, 0.0)
        self._spoke = 0.0

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._spoke = time.perf_counter()
        self._console.print(shown(text))

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        if isinstance(event, Started):
            self._task = self._bar.add_task(
                "training", total=event.total, completed=event.step, figures="", loss=""
            )
            self._pace = Pace(event.step, time.perf_counter())
            self._spoke = self._pace.begin
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Skipped):
            self.say(
                f"skipped a step behind step {event.step} ({event.skipped} of {event.allowed}): {event.reason}"
            )
        elif isinstance(event, EpochEnded):
            self.say(_epoch_line(event))
        elif isinstance(event, Kept):
            self.say(_kept_line(event))

    def _step(self, event: Stepped) -> None:
        figures = _figures_of(event)
        if self._moves and self._task is not None:
            loss, _, _ = figures.partition(",")
            self._bar.update(self._task, completed=event.step, figures=figures, loss=loss)
        elif time.perf_counter() - self._spoke >= self._every and event.step < event.total:
            left = self._pace.left(event.step, event.total, time.perf_counter())
            self.say(f"step {event.step} of {event.total}: {figures}, about {lasting(left)} left")


def _columns(width: int) -> list[ProgressColumn]:
    """Return what fits into `width` columns; rich would cut the rest off."""
    done, remaining, left = MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left")
    figures = TextColumn("{task.fields[figures]}", markup=False)
    if width >= WIDE_BAR:
        name = TextColumn("{task.description}", markup=False)
        return [name, BarColumn(24), done, figures, TimeElapsedColumn(), left, remaining]
    if width >= BAR:
        return [done, figures, left, remaining]
    return [done, TextColumn("{task.fields[loss]}", markup=False), left, remaining]


@dataclass(frozen=True)
class Pace:
    """When training began (seconds of a clock), and at which step."""

    step: int
    begin: float

    def left(self, step: int, total: int, now: float) -> float:
        """Return the seconds that are left at the pace so far."""
        return (now - self.begin) * (total - step) / max(step - self.step, 1)


def _figures_of(event: Stepped) -> str:
    goal = "" if event.target is None else f" of {event.target}"
    return f"loss {event.loss:.3f}, {event.phase}, zero groups {event.zeroed}{goal}"


def _epoch_line(event: EpochEnded) -> str:
    best = " (best)" if event.best else ""
    value = "" if event.value is None else f"  {event.split} {event.metric} {event.value:.4f}{best}"
    goal = "" if event.target is None else f" of {event.target}"
    left = event.total - event.step
    eta = event.seconds * left / max(event.step / event.epoch, 1)
    remaining = f", about {lasting(eta)} left" if left else ""
    if event.waited > max(MOST_WAITED * event.seconds, LEAST_WAITED):
        remaining += f"; {event.waited / event.seconds:.0%} of it waiting for data, see --loaders"
    return (
        f"epoch {event.epoch}: loss {event.loss:.4f}{value}  {event.phase}, zero groups {event.zeroed}{goal} "
        f"({event.seconds:.1f} s{remaining})"
    )


def _kept_line(event: Kept) -> str:
    early = "nothing became better: training ends early; " if event.early else ""
    what = "kept is the moving average" if event.averaged else "kept are the parameters"
    if event.split is None:
        return f"{early}{what} of the last step"
    when = f"of epoch {event.epoch}" if event.epoch else "as they were before the first step"
    return f"{early}{what} {when}, the best: {event.split} {event.metric} {event.value:.4f}"
