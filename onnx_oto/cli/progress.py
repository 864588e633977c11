"""What the user sees of training while it runs, on stderr."""

from __future__ import annotations

import contextlib
import os
import time
from types import TracebackType

from rich.live import Live

from onnx_oto.cli.live import Notes, Screen
from onnx_oto.cli.screen import console
from onnx_oto.cli.streams import PROGRESS
from onnx_oto.cli.text import lasting, shown
from onnx_oto.training import EpochEnded, Event, Kept, PutOff, Skipped, Started, Stepped

MOST_WAITED, LEAST_WAITED = 0.05, 1.0
"""What share of an epoch may go into waiting for data without a word, and how many seconds may."""
PER_SECOND = 3
"""How often the screen is drawn: a millisecond or two each time, in a thread of its own."""


class Progress:
    """A screen of the run on stderr (see `live`), or lines where stderr is no terminal.

    Also an observer of training. Without a terminal a line comes every `every` seconds, as one epoch may take
    minutes.
    """

    def __init__(self, *, every: float = 10.0) -> None:
        self._console = console(PROGRESS)
        self._moves = self._console.is_terminal and not self._console.is_dumb_terminal
        self._notes = Notes()
        self._live = Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._every = every
        self._has_waited = False
        self._spoke = 0.0

    def __enter__(self) -> Progress:
        if self._moves:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._moves:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a sentence above the screen."""
        self._spoke = time.perf_counter()
        self._console.print(shown(text), soft_wrap=not self._moves)

    def notice(self, event: Event) -> None:
        """See `Observer.notice`."""
        self._notes.take(event)
        if isinstance(event, Started):
            self._spoke = time.perf_counter()
        elif isinstance(event, Stepped):
            if not self._moves:
                self._step(event)
        elif isinstance(event, Skipped):
            self.say(
                f"skipped a step behind step {event.step} ({event.skipped} of {event.allowed}): {event.reason}"
            )
        elif isinstance(event, PutOff):
            self._put_off(event)
        elif isinstance(event, EpochEnded):
            self.say(_epoch_line(event))
        elif isinstance(event, Kept):
            self.say(_kept_line(event))

    def _put_off(self, event: PutOff) -> None:
        if not self._has_waited:
            self.say(
                f"step {event.step} of {event.total}: the loss has not begun to fall ({event.loss:.3f}), so groups are "
                "chosen later"
            )
        self._has_waited = True

    def _step(self, event: Stepped) -> None:
        now = time.perf_counter()
        if now - self._spoke >= self._every and event.step < event.total:
            left = self._notes.pace.left(event.step, event.total, now)
            self.say(f"step {event.step} of {event.total}: {_figures_of(event)}, about {lasting(left)} left")

    def _drawn(self) -> Screen:
        """Return what is to be drawn, for the size that the terminal has by now."""
        if PROGRESS.isatty() and "COLUMNS" not in os.environ:
            with contextlib.suppress(OSError):
                self._console.size = os.get_terminal_size(PROGRESS.fileno())
        return Screen(self._notes)


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
